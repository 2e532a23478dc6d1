"""The words of `robustml data audit-log`."""

from robustml.commands.ending.subverbs import second_word

second_word(
    "data audit-log",
    {
        "verify": "whether a log is whole, and by whom: robustml data audit-log verify log=audit.jsonl trust=keys",
    },
)
