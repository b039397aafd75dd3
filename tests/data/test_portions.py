from electra_keras.data.portions import portions


def test_a_portion_ends_with_the_item_that_fills_it():
    assert list(portions(["aaaa", "bbbb", "cc", "d" * 30, "e"], 10)) == [["aaaa", "bbbb", "cc"], ["d" * 30], ["e"]]


def test_no_portion_is_empty():
    assert list(portions([], 10)) == []
    assert list(portions(["a" * 10], 10)) == [["a" * 10]]


def test_lengths_may_be_other_than_of_the_items():
    assert list(portions([3, 1, 2], 4, length_of=lambda item: item)) == [[3, 1], [2]]


def test_items_are_read_as_portions_are_asked_for():
    items = iter(["aa", "bb", "cc"])
    next(portions(items, 2))
    assert next(items) == "bb"
