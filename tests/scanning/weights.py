"""Files of weights and arrays, as people have them: a scan has to pass every one."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path

import joblib
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn


def good(folder: Path) -> dict[str, Path]:
    """Files of weights and arrays, by their names."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    adam = torch.optim.Adam(net.parameters(), amsgrad=True)
    net(torch.rand(2, 1, 6, 6)).sum().backward()
    adam.step()
    steps = torch.optim.lr_scheduler.MultiStepLR(adam, [3, 3, 5])
    kinds = {
        "parameter": nn.Parameter(torch.ones(2)), "half": torch.ones(2).half(), "bfloat": torch.ones(2).bfloat16(),
        "complex": torch.ones(2, dtype=torch.complex64), "sparse": torch.eye(3).to_sparse(), "size": torch.Size([1]),
        "type": torch.float32,
        "device": torch.device("cpu"), "shared": net[0].weight.data[1:], "whole": net[0].weight.data,
        "bool": torch.ones(3).bool(), "empty": torch.ones(0), "array": np.ones(3), "number": np.float64(2),
    }  # fmt: skip
    plain = {
        "array": np.ones((3, 4)), "order": np.asfortranarray(np.ones((3, 4))), "number": np.float32(1),
        "list": [1, 2.0, "x", b"y", b"", {1, 2}, frozenset([3]), None, True, 1 + 2j, bytearray(b"x"), -(10**30)],
        "dict": collections.OrderedDict(a=1), "long": "x" * 100_000, "times": np.array(["2020-01-01"], "M8[D]"),
        "records": np.zeros(2, [("a", "<f4"), ("b", "<i8", (2,))]),
    }  # fmt: skip
    states = {"net": net.state_dict(), "adam": adam.state_dict(), "steps": steps.state_dict(), "kinds": kinds}
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pt")
        torch.save(state, folder / f"{name} protocol 4.pt", pickle_protocol=4)
        if name != "kinds":
            torch.save(state, folder / f"{name} before 1.6.pt", _use_new_zipfile_serialization=False)
    for protocol in range(6):
        (folder / f"plain {protocol}.pkl").write_bytes(pickle.dumps(plain, protocol))
    np.save(folder / "a.npy", np.ones((3, 4)))
    np.save(folder / "records.npy", plain["records"])
    np.save(folder / "objects.npy", np.array(["a", None, 3], dtype=object))
    np.savez(folder / "two.npz", a=np.ones(3), b=np.zeros((2, 2)))
    np.savez_compressed(folder / "packed.npz", a=np.arange(100))
    arrays = {
        "a": np.random.default_rng(0).random((100, 3)), "b": np.arange(5), "c": np.array(["abc"]), "d": np.zeros(()),
        "objects": np.array(["x", None], dtype=object), "order": np.asfortranarray(np.ones((3, 4))), "e": np.zeros(0),
    }  # fmt: skip
    for kind in (0, 3, "gzip", "bz2", "xz", "lzma"):
        joblib.dump(arrays, folder / f"{kind}.joblib", compress=kind if isinstance(kind, int) else (kind, 3))
    save_file({"a": torch.ones(3, 4), "b": torch.ones(2).half()}, folder / "net.safetensors", {"format": "pt"})
    (folder / "notes.txt").write_text("cats\nand dogs\n")
    (folder / "table.csv").write_text("class,value\nred,1\n")
    (folder / "dots.md").write_text("N. Carlini, (2017)\n")
    return {path.name: path for path in sorted(folder.iterdir())}
