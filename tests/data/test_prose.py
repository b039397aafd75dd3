import ast
import inspect
import textwrap

import pytest

from electra_keras.data.prose import docstring_paragraphs, is_prose, prose_paragraphs, without_markup

GOOGLE = """Computes the mean of all values
    that are given, one by one.

    It reads each value once::

        total = total + value

    Args:
        values: A list of numbers that shall
            be averaged, at least one.
        axis (int): The axis along which the mean is taken.
        out:

    Example:

    ```python
    This is code, although it reads like a sentence.
    ```

    - The first item of a list is kept whole,
      with its second line.
    - short item

    Returns:
        The mean as one single floating point number.
    """

NUMPY = """
    mean(values, axis=None)

    Compute the arithmetic mean along the given axis [1]_.

    Parameters
    ----------
    values : array_like
        Array containing numbers whose mean is desired.
    axis : int, optional

    Examples
    --------
    The mean of two numbers lies halfway between them.

    >>> mean([1, 2])
    This output looks like a sentence of its own.

    ===== =====
    left  right
    ===== =====

    .. [1] This reference is not a paragraph of prose at all.

    :param dtype: The type that is used in computing the mean.
    """


def prose(docstring):
    return list(prose_paragraphs(docstring))


def test_google_style_keeps_sentences_only():
    assert prose(GOOGLE) == [
        "Computes the mean of all values that are given, one by one.",
        "It reads each value once:",
        "A list of numbers that shall be averaged, at least one.",
        "The axis along which the mean is taken.",
        "The first item of a list is kept whole, with its second line.",
        "The mean as one single floating point number.",
    ]


def test_numpy_style_keeps_sentences_only():
    assert prose(NUMPY) == [
        "Compute the arithmetic mean along the given axis.",
        "Array containing numbers whose mean is desired.",
        "The mean of two numbers lies halfway between them.",
        "The type that is used in computing the mean.",
    ]


@pytest.mark.parametrize(
    "marked, plain",
    [
        ("Use :class:`~keras.layers.Dense` and :func:`fit <keras.fit>`.", "Use keras.layers.Dense and fit."),
        ("The ``axis`` of `values` is **never** *negative*.", "The axis of values is never negative."),
        ("See `the guide <https://example.org>`_ or [this page](https://example.org).", "See the guide or this page."),
        ("As follows::", "As follows:"),
        ("Two  spaces\tand 2 * 3 * 4.", "Two spaces and 2 * 3 * 4."),
    ],
)
def test_markup_goes_and_its_words_stay(marked, plain):
    assert without_markup(marked) == plain


@pytest.mark.parametrize(
    "paragraph",
    [
        "Too short a text.",
        "This one has no end of a sentence at all",
        "f(x) = g(x) + h(x) for all the x in [0, 1].",
        "1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0 9.0 and so on.",
        "- a dash stands at the beginning of this one.",
    ],
)
def test_what_is_no_prose(paragraph):
    assert not is_prose(paragraph)


def test_docstrings_come_in_source_order_and_other_strings_do_not_come():
    source = textwrap.dedent(
        '''
        """The module's docstring is the first one here."""
        TEXT = """This string is no docstring and it must not come."""
        if True:
            class First:
                """The class inside a condition comes as second."""
                async def method(self):
                    """The method of the class comes as the third."""
                    return """Nor is this one, for it is returned here."""
        else:
            def function():
                """The function of the other branch comes last."""
        '''
    ).encode()
    assert docstring_paragraphs(source) == [
        "The module's docstring is the first one here.",
        "The class inside a condition comes as second.",
        "The method of the class comes as the third.",
        "The function of the other branch comes last.",
    ]


@pytest.mark.parametrize(
    "source", [b'"""An unfinished docstring that no one can parse.', b'print "text"\n"""And so on and so forth, it is old."""', b'"""\0"""']
)
def test_sources_of_other_versions_have_none(source):
    assert docstring_paragraphs(source) == []


def test_the_coding_line_is_followed():
    source = '# coding: latin-1\n"""Caf\xe9 au lait is what this docstring is about."""'.encode("latin-1")
    assert docstring_paragraphs(source) == ["Café au lait is what this docstring is about."]


def test_docstrings_are_found_as_python_finds_them():
    source = inspect.getsource(textwrap)
    found = {
        paragraph
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        for paragraph in prose(ast.get_docstring(node) or "")
    }
    assert found
    assert found <= set(docstring_paragraphs(source.encode()))
