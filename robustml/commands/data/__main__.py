"""The words of `robustml data`."""

from robustml.commands.ending.subverbs import second_word

second_word(
    "data",
    {
        "describe": "say what was understood of a set: robustml data describe data=csv data.source.train=table.csv",
        "sign": "put a name under a manifest: robustml data sign manifest=m key=keys",
    },
)
