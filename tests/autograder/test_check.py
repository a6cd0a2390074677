"""What a student sees of `check`, `hint`, `solution` and `progress`, in a terminal."""

import functools
import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from autograder import check, hint, progress, solution
from autograder.exercise import all_exercises
from tests.autograder.book import solution as solution_of
from tests.autograder.book import solution_text

# --- the outcomes ---------------------------------------------------------------------------------------------------


def right(x, W, y):
    return torch.einsum("bi,kij,bj->bk", x, W, y)


def seen(capsys, function, name="bilinear") -> str:
    """What `check` prints about a function, passed under an exercise's name."""
    function.__name__ = name
    check(function)
    return capsys.readouterr().out


def test_a_right_answer_is_one_short_line(capsys):
    out = seen(capsys, right)
    assert out.startswith("✓ bilinear: correct") and out.count("\n") == 1 and len(out) < 80


def test_a_wrong_answer_shows_trial_expected_and_got(capsys):
    out = seen(capsys, lambda x, W, y: right(x, W, y) + 1)
    assert "✗ bilinear: not yet (trial 1 of" in out
    assert "10 of 10 values differ" in out or "values differ" in out
    assert "expected  tensor(" in out and "got       tensor(" in out
    assert "   x = tensor(" in out and "hint(bilinear)" in out


def test_a_known_mistake_gets_its_sentence(capsys):
    mistake = next(m for m in all_exercises()["bilinear"].mistakes)
    out = seen(capsys, lambda x, W, y: mistake.implementation(x, W, y))
    assert f"→ {mistake.sentence}" in out


def test_the_starter_is_not_attempted(capsys):
    def starter(x, W, y):
        raise NotImplementedError

    assert seen(capsys, starter).startswith("○ bilinear: not attempted.")


def test_not_implemented_raised_by_torch_is_an_error(capsys):
    def unsupported(x, W, y):
        return right(x, W, y.to("meta")).to("cpu")

    assert "it raised an error" in seen(capsys, unsupported)


def test_an_error_shows_the_learners_own_lines_and_the_arguments_and_no_traceback(tmp_path):
    program = tmp_path / "mine.py"
    program.write_text(
        textwrap.dedent(
            """\
            import torch
            from autograder import check

            def helper(x, W):
                return x @ W

            def bilinear(x, W, y):
                z = helper(x, W.sum())
                return z

            check(bilinear)
            """
        )
    )
    out = subprocess.run([sys.executable, program], capture_output=True, text=True, env=os.environ, check=True).stdout
    assert "✗ bilinear: it raised an error" in out
    assert "RuntimeError: both arguments to matmul need to be at least 1D" in out
    assert "line 8 in bilinear: z = helper(x, W.sum())" in out
    assert "line 5 in helper: return x @ W" in out
    assert "Traceback" not in out and "site-packages" not in out and "autograder/" not in out
    assert "   W = tensor(" in out


def test_changed_arguments_are_said_though_the_result_is_right(capsys):
    def in_place(x, W, y):
        result = right(x, W, y)
        x.mul_(2)
        return result

    out = seen(capsys, in_place)
    assert "it changed its arguments" in out and "x.clone()" in out


def test_a_loop_over_elements_is_said_though_the_result_is_right(capsys):
    def loops(x, W, y):
        return torch.stack([torch.stack([x[b] @ W[k] @ y[b] for k in range(len(W))]) for b in range(len(x))])

    out = seen(capsys, loops)
    assert "✓" not in out


def test_a_forbidden_function_is_named(capsys):
    def shortcut(labels, num_classes):
        return torch.nn.functional.one_hot(labels, num_classes).float()

    out = seen(capsys, shortcut, "one_hot")
    assert "right, but not in the way asked for" in out and "`one_hot` is not allowed" in out


# --- odd but right --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda a, b, c: right(a, b, c), id="renamed parameters"),
        pytest.param(lambda y, x, W: right(x, W, y), id="parameters in another order"),
        pytest.param(lambda *, x, W, y: right(x, W, y), id="parameters by keyword only"),
        pytest.param(lambda *arguments: right(*arguments), id="any arguments"),
        pytest.param(lambda x, W, y, eps=0.0: right(x, W, y) + eps, id="a further parameter with a default"),
        pytest.param(lambda x, W, y: right(x, W, y.requires_grad_(False)).requires_grad_(), id="requires grad"),
        pytest.param(lambda x, W, y: torch.nn.Parameter(right(x, W, y)), id="a Parameter"),
        pytest.param(lambda x, W, y: right(x, W, y).T.contiguous().T, id="not contiguous"),
        pytest.param(lambda x, W, y: print("debugging") or right(x, W, y), id="prints"),
    ],
)
def test_right_answers_in_odd_styles_pass(capsys, odd):
    assert "✓ bilinear: correct" in seen(capsys, odd)


def test_a_warning_never_costs_a_point(capsys):
    def warns(x, W, y):
        import warnings

        warnings.warn("this will change", DeprecationWarning, stacklevel=2)
        return right(x, W, y)

    with pytest.warns(DeprecationWarning):
        assert "✓" in seen(capsys, warns)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_default_dtype_of_a_notebook_decides_nothing(capsys, dtype):
    exercise = all_exercises()["top_k_accuracy"]
    torch.set_default_dtype(dtype)
    try:
        check(solution_of(exercise))
        assert torch.get_default_dtype() is dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert "✓" in capsys.readouterr().out


def test_the_default_device_of_a_notebook_decides_nothing(capsys):
    with torch.device("meta"), torch.inference_mode():
        assert "✓" in seen(capsys, right)


def test_a_function_that_sets_the_default_dtype_sets_it_for_itself(capsys):
    def careless(x, W, y):
        torch.set_default_dtype(torch.float64)
        return right(x, W, y)

    assert "✓" in seen(capsys, careless)
    assert torch.get_default_dtype() is torch.float32


def test_a_decorated_function_is_found_by_its_name(capsys):
    @torch.no_grad()
    def bilinear(x, W, y):
        return right(x, W, y)

    check(bilinear)
    assert "✓" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_result_on_the_gpu_passes(capsys):
    assert "✓" in seen(capsys, lambda x, W, y: right(x, W, y).cuda())


def test_the_random_state_is_left_as_it_was(capsys):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    seen(capsys, lambda x, W, y: right(x, W, y) + 0 * torch.rand(1))
    assert torch.equal(torch.rand(2), expected)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raise_(error: BaseException) -> None:
    raise error


# --- wrong kinds of result ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x, W, y: None, "got None. Is a `return` missing?"),
        (lambda x, W, y: right(x, W, y).numpy(), "got a NumPy array"),
        (lambda x, W, y: 3.0, "got a Python float"),
        (lambda x, W, y: right(x, W, y).double(), "expected dtype float32, got float64"),
        (lambda x, W, y: right(x, W, y).T, "expected shape (2, 5), got (5, 2)"),
        (lambda x, W, y: (yield), "A `yield` makes a function a generator"),
        (lambda x, W, y: [right(x, W, y)], "got a Python list"),
        (lambda x, W: right(x, W, x), "takes (x, W), but this exercise calls it with (x, W, y)"),
        (lambda: 1, "takes (), but this exercise calls it with (x, W, y)"),
        (lambda x, W, y: right(x, W, y) * torch.nan, "got nan"),
        (lambda x, W, y: sys.exit(), "SystemExit"),
        (lambda x, W, y: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda x, W, y: raise_(Unprintable()), "Unprintable: (the error cannot be printed)"),
        (lambda x, W, y: raise_(GeneratorExit()), "GeneratorExit"),
        (lambda x, W, y: right(x, W, y) * (1 + 1e-3), "values differ"),
        (lambda x, W, y: torch.zeros(1).expand(10**5, 10**5), "(100000, 100000), which is too large to compare"),
        (lambda x, W, y: 10**5000, "got a Python int"),
    ],
)
def test_wrong_kinds_of_result_are_named(capsys, function, sentence):
    assert sentence in seen(capsys, function)


def test_a_tensor_where_a_number_is_asked_for(capsys):
    def tensor(logits, labels, k):
        return (logits.topk(k).indices == labels[:, None]).any(1).float().mean()

    assert "`.item()` turns a tensor of one element into a Python number" in seen(capsys, tensor, "top_k_accuracy")


# --- not an exercise ------------------------------------------------------------------------------------------------


def test_what_is_not_an_exercise_is_said_in_one_sentence(capsys):
    def bilinaer():
        pass

    def my_own_function():
        pass

    for target, sentence in [
        (bilinaer, "There is no exercise called bilinaer. Did you mean bilinear?"),
        (my_own_function, "There is no exercise called my_own_function. Keep the name that the starter has."),
        (lambda x: x, "A lambda has no name"),
        (functools.partial(right), "An object of type partial has no name"),
        (torch.zeros(2), "Pass the function itself, without calling it"),
        (None, "this is an object of type NoneType"),
        ("bilinear", "Pass the function itself, not its name in quotes: check(bilinear)."),
    ]:
        check(target)
        out = capsys.readouterr().out
        assert sentence in out and out.count("\n") == 1


def test_a_check_inside_its_own_exercise_is_told_so(capsys):
    def bilinear(x, W, y):
        check(bilinear)
        return right(x, W, y)

    check(bilinear)
    out = capsys.readouterr().out
    assert "check(bilinear) stands inside bilinear: move it below the function." in out and "✓ bilinear" in out


def test_a_terminal_without_the_signs_still_gets_the_words():
    program = "from autograder import progress; progress()"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "? bilinear" in run.stdout


def test_a_picture_never_hides_what_is_not_a_number():
    from autograder.display import report
    from autograder.practice import try_out

    def without_self_loops(weights):
        return torch.tensor(weights) * (1 - torch.eye(len(weights), dtype=torch.float64))

    exercise = all_exercises()["without_self_loops"]
    page = report(exercise, try_out(without_self_loops), 0, "")
    assert "nan" in page.markup and "<img" not in page.markup


def test_keyboard_interrupt_stays_the_users():
    def stuck(x, W, y):
        raise KeyboardInterrupt

    stuck.__name__ = "bilinear"
    with pytest.raises(KeyboardInterrupt):
        check(stuck)


# --- hint, solution, progress ---------------------------------------------------------------------------------------


def test_hints_come_one_at_a_time_and_start_again(capsys):
    exercise = all_exercises()["masked_mean"]
    for number in [*range(len(exercise.hints)), 0]:
        hint("masked_mean")
        out = capsys.readouterr().out
        assert f"Hint {number + 1} of {len(exercise.hints)}" in out and exercise.hints[number] in out


def test_the_solution_is_shown_after_an_attempt_only(capsys):
    solution("bilinear")
    assert "Try bilinear first" in capsys.readouterr().out
    seen(capsys, lambda x, W, y: x)
    solution("bilinear")
    out = capsys.readouterr().out
    assert solution_text(all_exercises()["bilinear"]) in out and "###" not in out


def test_progress_shows_what_is_solved_and_keeps_it(capsys, state):
    seen(capsys, right)
    seen(capsys, lambda x, W, y: x)
    seen(capsys, lambda x, y: x, "squared_distances")
    progress()
    out = capsys.readouterr().out
    count = sum(exercise.chapter == "tensors" for exercise in all_exercises().values())
    assert "01 Tensors and einsum" in out and f"1/{count}" in out
    assert "✓ bilinear" in out and "… squared_distances" in out and "○ one_hot" in out
    assert json.loads((state / "progress.json").read_text()) == {"bilinear": "solved", "squared_distances": "attempted"}


@pytest.mark.parametrize("damage", ["", "[]", "{broken", "\0\0", "[" * 100_000])
def test_a_damaged_progress_file_is_put_aside(capsys, state, damage):
    state.mkdir()
    (state / "progress.json").write_text(damage)
    assert "✓" in seen(capsys, right)
    assert (state / "progress.damaged.json").read_text() == damage
    assert json.loads((state / "progress.json").read_text()) == {"bilinear": "solved"}


def test_a_state_folder_that_cannot_be_written_is_said_after_the_verdict(capsys, state):
    state.write_text("a file where the folder should be")
    out = seen(capsys, right)
    assert "✓ bilinear" in out and "progress could not be saved" in out


def test_a_progress_file_that_is_a_folder_or_holds_nonsense_stops_nothing(capsys, state):
    (state / "progress.json").mkdir(parents=True)
    assert "✓" in seen(capsys, right)
    progress()
    solution("bilinear")
    (state / "progress.json").rmdir()
    (state / "progress.json").write_text('{"outer_sum": "foo", "one_hot": ["x"], "bilinear": "solved"}')
    progress()
    assert "✓ bilinear" in capsys.readouterr().out


def test_many_notebooks_may_save_at_once(state):
    program = "import sys; from autograder.record import remember; [remember(n, solved=True) for n in sys.argv[1:]]"
    names = [[f"exercise_{i}_{j}" for j in range(20)] for i in range(3)]
    running = [subprocess.Popen([sys.executable, "-c", program, *own], env=os.environ) for own in names]
    assert all(process.wait() == 0 for process in running)
    assert set(json.loads((state / "progress.json").read_text())) == {name for own in names for name in own}
