"""The words of `robustml model`."""

from robustml.commands.ending.subverbs import second_word

second_word(
    "model",
    {
        "scan": "say what loading a file could run, without loading it: robustml model scan model.pt",
        "sign": "sign the weights, config, results and card of a run: robustml model sign run=<dir> key=keys",
        "verify": "whether a run is as somebody signed it: robustml model verify run=<dir> trust=keys",
    },
)
