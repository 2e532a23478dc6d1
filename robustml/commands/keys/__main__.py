"""The words of `robustml keys`."""

from robustml.commands.ending.subverbs import second_word

second_word(
    "keys",
    {
        "new": "make a key that signs, and a trust store that believes it: robustml keys new out=keys name=alice",
        "trust": "believe the key of somebody: robustml keys trust store=keys key=bob.pem name=bob may=[data]",
        "list": "say whose signatures count, and for what: robustml keys list store=keys",
    },
)
