"""A run's objective: the terms that its config asks for, as one loss over any number of workers.

Each term is a mean over things of its own: tokens, rows or pairs. A worker's micro-batch holds
some of them only, so it says how many (:meth:`Objective.counts`), and its means are weighted by
its part of the step's (``TrainBatch.share``). Then the step's loss is the mean over all of them,
whatever the number of workers and micro-batches. Only EMD's root is taken over a micro-batch, as
the release takes it over a device's rows: it does depend on how a step is cut.
"""

import torch
from torch import Tensor

from beholder.backbones.contract import IGNORED
from beholder.training.batch import TrainBatch
from beholder.training.learning_config import ObjectiveConfig
from beholder.training.objectives import (
    answer_cross_entropy,
    closed_soft_label_kl,
    earth_movers_distance,
    fidelity_loss,
    score_moments,
    smooth_l1,
    soft_cross_entropy,
    soft_label_kl,
    squared_error,
)
from beholder.training.objectives.fidelity import pairs_of_sets

TERMS = ("next_token", "soft_label", "fidelity", "smooth_l1", "emd", "vote_ce", "squared_error")
"""Names of the weights in :class:`~beholder.training.config.ObjectiveConfig`."""


class Objective:
    """The weighted sum of next-token CE and of what is learned at the slots.

    Args:
        config: which terms, how much of each.
        token_ids: of the readout's words, in the order of its targets; none where it has none.
        support: the score of each word. (K,).
    """

    def __init__(self, config: ObjectiveConfig, token_ids: list[int], support: Tensor) -> None:
        self.config = config
        self._ids = torch.tensor(token_ids, dtype=torch.int64)
        self._support = support.float()
        self._weights = torch.tensor([getattr(config, term) for term in TERMS])

    def counts(self, item: TrainBatch) -> Tensor:
        """What each of ``TERMS`` is a mean over: weighted tokens, rows or pairs. float64 (T,)."""
        weights = item.weights.double()
        tokens, _ = self._supervised(item)
        # A row counts once, however many slots it has.
        rows, pairs = item.slot_weights.double().sum(), weights[self._pairs(item)].prod(1).sum()
        return torch.stack([weights[tokens].sum(), rows, pairs, rows, rows, rows, rows])

    def positions(self, item: TrainBatch) -> Tensor:
        """Where logits are needed: (row, column) of what predicts each token. int64 (M, 2)."""
        rows, columns = self._supervised(item)
        taught, numbers = item.slots.unbind(1)
        slots = torch.stack([taught, item.batch.encoded.slots[taught, numbers]], 1)
        return torch.cat([torch.stack([rows, columns - 1], 1), slots])

    def __call__(self, logits: Tensor, item: TrainBatch, values: Tensor | None = None) -> Tensor:
        """The loss of a micro-batch from the logits at :meth:`positions`. Scalar.

        Args:
            logits: (M, V).
            item: the micro-batch.
            values: what the readout's head makes of the states there, (M, 1); where it has one.
        """
        rows, columns = self._supervised(item)
        labels = item.batch.encoded.labels[rows, columns]
        weights = item.weights.to(logits.dtype)
        at_slots = logits[len(rows) :]
        losses = [
            answer_cross_entropy(logits[: len(rows)], labels, weights[rows]),
            self._soft_label(at_slots, item),
            self._fidelity(at_slots, item, weights),
            *self._score_terms(at_slots, item),
            self._squared_error(values, item),
        ]
        share = (self._weights * item.share).to(logits)
        return (torch.stack(losses) * share).sum()

    def _supervised(self, item: TrainBatch) -> tuple[Tensor, Tensor]:
        """Rows and columns of the tokens that next-token CE is taken on.

        Where soft labels teach the level token, it is left out (DeQA-Score, section 3.3).
        """
        encoded = item.batch.encoded
        at = encoded.labels != IGNORED
        if self.config.soft_label:
            rows = torch.arange(len(at), device=at.device)
            at = at.clone()
            at[rows, encoded.slots[:, 0] + 1] = False
        rows, columns = at.nonzero().unbind(1)
        return rows, columns

    def _soft_label(self, logits: Tensor, item: TrainBatch) -> Tensor:
        if not self.config.soft_label:
            return logits.new_zeros(())
        weights = item.slot_weights.to(logits)
        ids, targets = self._ids.to(logits.device), item.targets.to(logits)
        if self.config.softmax == "closed":
            return closed_soft_label_kl(logits[:, ids], targets, weights)
        return soft_label_kl(logits, ids, targets, weights)

    def _fidelity(self, logits: Tensor, item: TrainBatch, weights: Tensor) -> Tensor:
        config = self.config
        if not config.fidelity:
            return logits.new_zeros(())
        probs = logits[:, self._ids.to(logits.device)].softmax(-1)
        mean, std = score_moments(probs, self._support.to(logits.device))
        return fidelity_loss(
            mean,
            item.mos.to(logits),
            item.sets,
            weights,
            std=std if config.spread == "predicted" else None,
            mos_std=None if config.binary else item.mos_std.to(logits),
            pairs=self._pairs(item),
        )

    def _score_terms(self, logits: Tensor, item: TrainBatch) -> list[Tensor]:
        """Smooth L1 of the score, EMD and soft CE of the votes, on the readout's words alone."""
        config, weights = self.config, item.slot_weights.to(logits)
        none = logits.new_zeros(())
        if not (config.smooth_l1 or config.needs_votes):
            return [none] * 3
        closed = logits[:, self._ids.to(logits.device)]
        probs, votes = closed.softmax(-1), item.targets.to(logits)
        mean, _ = score_moments(probs, self._support.to(logits.device))
        return [
            smooth_l1(mean, item.scores.to(logits), weights) if config.smooth_l1 else none,
            earth_movers_distance(probs, votes, weights) if config.emd else none,
            soft_cross_entropy(closed, votes, weights) if config.vote_ce else none,
        ]

    def _squared_error(self, values: Tensor | None, item: TrainBatch) -> Tensor:
        """Of the head's value behind a sigmoid, at the slots: the last rows of ``values``."""
        weights = item.slot_weights
        if not self.config.squared_error:
            return weights.new_zeros(())
        assert values is not None, "squared_error teaches a head, and the readout has none"
        predicted = values[-len(weights) :, 0].sigmoid()
        return squared_error(predicted, item.scores.to(predicted), weights.to(predicted))

    def _pairs(self, item: TrainBatch) -> Tensor:
        """(A, B) of this micro-batch: neighbours as the order dealt them, or all. (P, 2)."""
        count = len(item.weights)
        if not self.config.fidelity:
            return torch.zeros((0, 2), dtype=torch.int64)
        if self.config.pairs == "all":
            pairs = torch.combinations(torch.arange(count))
        else:
            pairs = torch.arange(count - count % 2).reshape(-1, 2)
        return pairs_of_sets(pairs.to(item.weights.device), item.sets, item.weights)
