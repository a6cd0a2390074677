import pytest

from course_utils.checkpoints import trained
from course_utils.files import DataError


def test_weights_that_do_not_exist_are_refused_in_one_sentence():
    with pytest.raises(DataError, match="no trained weights called 'cats'"):
        trained("cats")
