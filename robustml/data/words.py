"""Texts to vectors of words, so that what holds for (N, D) in [0, 1] holds for texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from robustml.errors import RequestError, nearest

Bag = Literal["presence", "tfidf", "hashing"]


def bag_of_words(texts: Sequence[str], train: Sequence[str], features: int = 1000, bag: Bag = "presence") -> Tensor:
    """Each text as one value a word, whatever the words' order; scikit-learn's words (two letters or more, lower case).

    The vocabulary is the `features` words found in most texts of `train`, of equals the first in the alphabet, sorted.
    Nothing else of `train` is used, and words outside the vocabulary are passed over.

    Args:
        texts: what to describe.
        train: the training part, which alone decides on the vocabulary and on how rare its words are.
        features: how many words at most; with ``hashing`` exactly as many columns.
        bag: ``"presence"`` is 1 for a word that occurs and 0 otherwise; ``"tfidf"`` counts occurrences, rare words for
            more, in vectors of Euclidean length 1; ``"hashing"`` is presence in columns that a hash of the word names,
            so that no training text, poisoned or not, decides on the columns (different words may share one).

    Returns:
        (N, D), float32 in [0, 1]; D is `features` or, where `train` has fewer words, their number.

    Raises:
        RequestError: `features` is below 1, `bag` is unknown, or `train` has no words.
    """
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer  # takes a second

    if features < 1:
        raise RequestError(f"expected features, the number of words, to be at least 1; got {features}")
    if bag not in get_args(Bag):
        raise RequestError(f"bag={bag!r} is unknown; {nearest(str(bag), get_args(Bag))}")
    if bag == "hashing":
        vectorizer = HashingVectorizer(n_features=features, binary=True, norm=None, alternate_sign=False)
        return _dense(vectorizer.transform(texts))
    words_of = CountVectorizer().build_analyzer()
    # by hand: where words are equally frequent, scikit-learn's max_features leaves the choice to an unstable sort
    found = Counter(word for text in train for word in set(words_of(text)))
    if not found:
        raise RequestError("expected words in the training texts, found none; name the column or folder of the texts")
    vocabulary = sorted(sorted(found, key=lambda word: (-found[word], word))[:features])
    if bag == "presence":
        return _dense(CountVectorizer(vocabulary=vocabulary, binary=True).transform(texts))
    return _dense(TfidfVectorizer(vocabulary=vocabulary).fit(train).transform(texts))


def _dense(matrix: Any) -> Tensor:
    """A sparse matrix of SciPy as a tensor, float32."""
    values = matrix.astype(np.float32).toarray()
    # clipped: the length of a vector of one word may be rounded to just above 1
    return torch.from_numpy(values).clamp_(0, 1)
