"""mPLUG-Owl2's text side: the Vicuna template with LLaMA's tokenizer.

Pieces between media are tokenised on their own, as the released code does: that is why what
follows a medium starts with the token of a lone space (29871).
"""

from pathlib import Path

from tokenizers import Tokenizer

from beholder.backbones.vicuna import VicunaText

BOS, EOS = 1, 2


class OwlText(VicunaText):
    """The Vicuna template over LLaMA's ``tokenizer.json``."""

    def __init__(self, tokenizer_json: str, tokens_per_frame: int) -> None:
        super().__init__(tokenizer_json, tokens_per_frame, BOS, EOS)
        # "</s>" in somebody's text must not end an answer.
        self._tokenizer.encode_special_tokens = True
        self.highest_id = max(self._tokenizer.get_vocab().values())


def read_tokenizer(path: Path) -> str:
    """The content of a ``tokenizer.json``.

    Raises:
        ValueError: there is no such file, or it is not a tokenizer.
    """
    if not path.is_file():
        raise ValueError(f"no tokenizer at '{path}': a scorer folder holds a tokenizer.json")
    content = path.read_text("utf-8")
    try:
        Tokenizer.from_str(content)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"'{path}' is not a tokenizer.json: {error}") from error
    return content
