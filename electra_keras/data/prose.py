"""The prose in Python docstrings: sentences kept; code, doctests, signatures, names, tables and markup left out."""

import ast
import inspect
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
STATEMENT_LISTS = ("body", "orelse", "handlers", "finalbody")

UNDERLINE = re.compile(r"\s*([-=~^\"'*#+`])\1{2,}\s*$")
FENCE = re.compile(r"\s*(```|~~~)")
# From such a line on, the rest of a block is code, its output, or a table.
CODE_LINE = re.compile(r"\s*(>>>|\.\.\. |In \[\d+\]:|\$ |% |\||\+[-=]|=+ +=|\.\. )")
BULLET = re.compile(r"\s*([-*+•]|\d{1,2}[.)]|\([a-z\d]\)) +")
# "x : int, optional", as NumPy and pandas list parameters: the text stands below, indented.
TYPED_NAME = re.compile(r"\s*[\w.*`, ]+ : ")
# ":param x: text" and, indented, "x: text" or "x (int): text".
FIELD = re.compile(r"\s*[:@][a-z]+[^:]*: ?")
NAMED_TEXT = re.compile(r"\s+[`'\"*]*\w[\w.*, ]{0,40}[`'\"*]*( ?\([^)]*\))? ?:{1,2} +")

ROLE = re.compile(r":[a-z:+]+:`[~!]?([^`<]*?)( *<[^`>]*>)?`")
LINK = re.compile(r"`([^`<]+?) *<[^`>]*>`_{1,2}|\[([^\]]+)\]\([^)\s]*\)|`([^`]+)`_\b")
FOOTNOTE = re.compile(r" ?\[#?\w+\]_")
LITERAL = re.compile(r"`{1,2}([^`]*?)`{1,2}")
EMPHASIS = re.compile(r"(?<![\w*])\*{1,2}(\w[^*]*)\*{1,2}(?![\w*])")

MIN_CHARACTERS = 24
MIN_WORDS = 5
# Shares of a paragraph's characters. English prose has 97% letters, spaces and plain punctuation; code has brackets and signs.
MIN_LETTERS = 0.75
MAX_CODE = 0.04
CODE_CHARACTERS = re.compile(r"[=(){}\[\]<>_/\\|@#$%^*~+]")
SENTENCE_END = re.compile(r"[.!?:][)\"']*$")


def docstring_paragraphs(source: bytes) -> list[str]:
    """Returns the prose paragraphs of all docstrings in a Python source, one line each, in source order.

    A source that this Python cannot parse has none: packages ship templates and files for other versions.

    Args:
        source: the bytes of a .py file, decoded as its coding line says.
    """
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            # Escapes that Python will refuse one day are the packages' business.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    paragraphs = []
    for node in _documented(tree):
        if docstring := ast.get_docstring(node, clean=False):
            paragraphs.extend(prose_paragraphs(docstring))
    return paragraphs


def prose_paragraphs(docstring: str) -> Iterator[str]:
    """Yields the prose paragraphs of one docstring, each re-flowed to one line and freed of markup.

    Of a list of parameters, the sentences that describe one are kept, its name and type are not.
    """
    for block in _blocks(_without_fences(inspect.cleandoc(docstring).split("\n"))):
        for item in _items(block):
            paragraph = without_markup(" ".join(item))
            if is_prose(paragraph):
                yield paragraph


def is_prose(paragraph: str) -> bool:
    """Tells whole sentences from headings, signatures, lists of names and formulas."""
    if len(paragraph) < MIN_CHARACTERS or paragraph.count(" ") < MIN_WORDS - 1:
        return False
    if not SENTENCE_END.search(paragraph) or not (paragraph[0].isalnum() or paragraph[0] in "\"'("):
        return False
    if len(CODE_CHARACTERS.findall(paragraph)) > MAX_CODE * len(paragraph):
        return False
    return sum(map(str.isalpha, paragraph)) >= MIN_LETTERS * len(paragraph)


def without_markup(paragraph: str) -> str:
    """Removes reStructuredText and Markdown markup, keeping the words marked up."""
    if "`" in paragraph or "[" in paragraph:
        paragraph = ROLE.sub(r"\1", paragraph)
        paragraph = LINK.sub(lambda match: next(group for group in match.groups() if group), paragraph)
        paragraph = FOOTNOTE.sub("", paragraph)
        paragraph = LITERAL.sub(r"\1", paragraph)
    if "*" in paragraph:
        paragraph = EMPHASIS.sub(r"\1", paragraph)
    if paragraph.endswith("::"):
        paragraph = paragraph[:-1]
    return " ".join(paragraph.split())


def _documented(tree: ast.AST) -> Iterator[ast.AST]:
    # Statements only, in source order: ast.walk would go through every expression, where no docstring can be.
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, DOCUMENTED):
            yield node
        children = [child for name in STATEMENT_LISTS for child in getattr(node, name, ())]
        stack.extend(reversed(children))


def _without_fences(lines: list[str]) -> Iterator[str]:
    """Yields the lines outside ``` fences and without underlined titles; what is left out counts as a blank line."""
    fenced = False
    for line, following in itertools.pairwise([*lines, ""]):
        fence = FENCE.match(line)
        fenced ^= bool(fence)
        title = UNDERLINE.match(following) or UNDERLINE.match(line)
        yield "" if fence or fenced or title else line


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yields runs of lines between blank ones, each as far as its first line of code."""
    for blank, run in itertools.groupby(lines, key=lambda line: not line.strip()):
        if not blank:
            yield list(itertools.takewhile(lambda line: not CODE_LINE.match(line), run))


def _items(block: list[str]) -> Iterator[list[str]]:
    """Yields a block's paragraphs: its lines, cut where a list's item begins and where the indentation changes.

    The continuation lines of "x: text" and of bullets are indented further than the first, other lines all alike.
    """
    item, depth, hanging = [], -1, False
    for line in block:
        indent = len(line) - len(line.lstrip())
        if TYPED_NAME.match(line) and not (item and indent == depth):
            yield item
            item, depth, hanging = [], -1, False
            continue
        start = BULLET.match(line) or FIELD.match(line) or NAMED_TEXT.match(line)
        continues = item and (indent > depth if hanging else indent == depth)
        if start or not continues:
            yield item
            item, depth, hanging = [], indent, bool(start)
        item.append(line[start.end() :] if start else line)
    yield item
