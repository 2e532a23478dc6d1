"""A few test examples before and after an attack, for pictures: examples.npz of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.errors import RequestError, printable
from robustml.files import replacing
from robustml.untrusted import read_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Examples:
    """K examples before and after the attack that fooled most.

    Attributes:
        x: examples, float (K, C, H, W) in [0, 1], or (K, D) where they are not images.
        x_adv: the same after the attack.
        y: true labels, int (K,).
        prediction: labels given to `x`, int (K,).
        adversarial_prediction: labels given to `x_adv`, int (K,).
        confidence: probability of `prediction`, float (K,).
        adversarial_confidence: probability of `adversarial_prediction`, float (K,).
        class_names: name of each label; empty if unknown.
        attack: name of the attack that fooled most.
        ids: of the records (`robustml.data.record_name`), int (K,); None where they are unknown.
        attacks: the attack that each example is shown after; empty where that is `attack`.
    """

    x: NDArray[np.floating[Any]]
    x_adv: NDArray[np.floating[Any]]
    y: NDArray[np.integer[Any]]
    prediction: NDArray[np.integer[Any]]
    adversarial_prediction: NDArray[np.integer[Any]]
    confidence: NDArray[np.floating[Any]]
    adversarial_confidence: NDArray[np.floating[Any]]
    class_names: tuple[str, ...]
    attack: str
    ids: NDArray[np.integer[Any]] | None = None
    attacks: tuple[str, ...] = ()

    @property
    def images(self) -> bool:
        """Whether the examples can be drawn."""
        return self.x.ndim == 4

    def name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else str(label)

    def save(self, path: Path) -> None:
        """Write them as an .npz that needs no pickle to read."""
        import numpy as np  # reports that show no pictures start without it

        arrays = {name: np.asarray(value) for name, value in vars(self).items() if value is not None}
        with replacing(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Examples | None:
        """Those of an .npz; None where there is none, or no example in it.

        Raises:
            RequestError: it is damaged, or arrays are missing or do not fit each other.
        """
        import numpy as np  # see `save`

        if not path.is_file():
            return None
        arrays = read_arrays(path)
        try:
            count = len(arrays["x"])
            unknown = np.full(count, np.nan)
            names = arrays["class_names"].reshape(-1) if "class_names" in arrays else ()
            examples = cls(
                x=arrays["x"].astype(float),
                x_adv=arrays["x_adv"].astype(float),
                y=arrays["y"].astype(int),
                prediction=arrays["prediction"].astype(int),
                adversarial_prediction=arrays["adversarial_prediction"].astype(int),
                confidence=arrays.get("confidence", unknown).astype(float),
                adversarial_confidence=arrays.get("adversarial_confidence", unknown).astype(float),
                class_names=tuple(printable(str(name)) for name in names),
                attack=printable(str(arrays["attack"])) if "attack" in arrays else "",
                ids=arrays["ids"].astype(int) if "ids" in arrays else None,
                attacks=tuple(printable(str(name)) for name in arrays["attacks"]) if "attacks" in arrays else (),
            )
        except KeyError as error:
            raise RequestError(f"{path} lacks an array: {error.args[0]}") from error
        except (ValueError, TypeError) as error:
            raise RequestError(f"{path} cannot be read as arrays: {' '.join(str(error).split())}") from error
        rows = (examples.y, examples.prediction, examples.adversarial_prediction, examples.confidence,
                examples.adversarial_confidence)  # fmt: skip
        if len(examples.attacks) not in (0, count):
            raise RequestError(f"{path}: attacks holds {len(examples.attacks)} names, of {count} examples")
        if {row.shape for row in rows} != {(count,)} or examples.x.shape != examples.x_adv.shape or examples.x.ndim < 2:
            raise RequestError(f"{path}: the arrays differ in length or shape")
        return examples if count else None
