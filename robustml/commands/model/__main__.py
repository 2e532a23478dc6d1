"""The words of `robustml model`."""

from robustml.commands.ending.subverbs import second_word

second_word(
    "model",
    {
        "scan": "say what loading a file could run, without loading it: robustml model scan model.pt",
    },
)
