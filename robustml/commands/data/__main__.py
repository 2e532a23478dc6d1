"""The words of `robustml data`."""

from robustml.commands.ending.subverbs import second_word

second_word(
    "data",
    {
        "describe": "say what was understood of a set: robustml data describe data=csv data.source.train=table.csv",
        "manifest": "say what every record is: robustml data manifest data=mnist data.root=<dir> out=m",
        "protect": "encrypted copies, any few of which suffice: robustml data protect places=[a,b,c] need=2 key=keys",
        "restore": "a protected set, bit-identical: robustml data restore places=[a,b,c] key=keys out=back",
        "sign": "put a name under a manifest: robustml data sign manifest=m key=keys",
        "verify": "say which are not as signed: robustml data verify data=mnist data.root=<dir> manifest=m trust=keys",
        "diff": "say what became of a set: robustml data diff old=m1 new=m2",
        "audit-log": "whether the log is whole: robustml data audit-log verify log=audit.jsonl trust=keys",
    },
)
