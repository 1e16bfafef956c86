"""New words: one token each in the tokenizer, one row each in the embeddings.

The tokenizer is a byte-pair one, as ``tokenizer.json`` keeps it.
"""

import json
from collections.abc import Sequence

import torch
from torch import nn


def lacking_words(tokenizer_json: str, words: Sequence[str]) -> list[str]:
    """Those of some words that a tokenizer doesn't hold as a whole, in order, each once."""
    tokenizer = json.loads(tokenizer_json)
    known = {*tokenizer["model"]["vocab"], *(t["content"] for t in tokenizer["added_tokens"])}
    return [word for word in dict.fromkeys(words) if word not in known]


def with_words(tokenizer_json: str, words: Sequence[str], first: int) -> str:
    """The content of ``tokenizer.json`` with words that it lacks, each one token wherever it is.

    A new word takes the spaces before it into its token, so that what predicts it is the word
    before and not a lone space: LLaMA would write one, and an open slot, whose text ends with
    the word before, would be read elsewhere than it was trained.

    Args:
        tokenizer_json: the old content.
        words: new ones.
        first: id of the first, behind every row of the embeddings; the others follow.
    """
    tokenizer = json.loads(tokenizer_json)
    for number, word in enumerate(words, start=first):
        # In the model's vocabulary, too: a vocabulary with gaps would give it an id of its own.
        tokenizer["model"]["vocab"][word] = number
        tokenizer["added_tokens"].append(
            {
                "id": number,
                "content": word,
                "single_word": False,
                "lstrip": True,
                "rstrip": False,
                "normalized": False,
                "special": False,  # mPLUG-Owl2 reads special words as plain text
            }
        )
    return json.dumps(tokenizer, indent=2, ensure_ascii=False)


def append_mean_rows(layer: nn.Embedding | nn.Linear, count: int) -> None:
    """Adds rows to a weight (V, H), each the mean of the V that it had (ROC4MLLM's release).

    Args:
        layer: an input embedding, or an output embedding without a bias.
        count: how many.
    """
    old = layer.weight.detach()
    grown = torch.cat([old, old.mean(dim=0, keepdim=True).expand(count, -1)])
    layer.weight = nn.Parameter(grown, requires_grad=layer.weight.requires_grad)
    if isinstance(layer, nn.Embedding):
        layer.num_embeddings += count
    else:
        layer.out_features += count
