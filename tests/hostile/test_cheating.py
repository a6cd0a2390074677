"""Attempts to be judged right without being right: comparison and expected values are not where student code is."""

import pytest

from tests.hostile.arena import status

WRONG = "def bilinear(x, W, y): return torch.zeros(x.shape[0], W.shape[0])\n"
CHEATS = {
    "patched comparisons": "torch.allclose = torch.isclose = torch.equal = lambda *a, **k: True\n"
    "torch.Tensor.__eq__ = lambda *a: True\n",
    "patched builtins": "import builtins\nfor name in ('abs', 'all', 'any', 'isinstance', 'max', 'min'):\n"
    "    setattr(builtins, name, lambda *a, **k: True)\n",
    "patched judge": "import autograder.judge as j, autograder.compare as c\nj.judge = lambda e, *a: "
    "j.Verdict(e.name, j.Status.CORRECT)\nc.difference = lambda *a, **k: None\nj.difference = c.difference\n",
    "patched probe": "import autograder.probe as p, autograder.attempt as a\n"
    "p.call = a.attempt = lambda *b, **k: [{'result': True}]\n",
    "patched attempt": "import autograder.sandbox.student as s\ns.attempt = lambda *a: []\n",
    "patched encoder": "import autograder.sandbox.student as s\ns.encode = lambda e: b'correct'\n",
    "patched specs": "from autograder.exercise import all_exercises\ne = all_exercises()['bilinear']\n"
    "e.draw = lambda rng: iter(())\n",
    "asserts stripped": "import ast\nclass Strip(ast.NodeTransformer):\n    def visit_Assert(self, node): return None\n"
    "old = compile\nimport builtins\nbuiltins.compile = lambda s, *a, **k: old(Strip().visit(s) if isinstance(s, "
    "ast.AST) else s, *a, **k)\n",
    "a tensor that equals everything": "class Yes(torch.Tensor):\n    def __eq__(self, other): return True\n"
    "    @classmethod\n    def __torch_function__(cls, f, t, a=(), k=None): return True\n"
    "def bilinear(x, W, y): return torch.zeros(1).as_subclass(Yes)\n",
    "an int that equals everything": "class Yes(int):\n    def __eq__(self, other): return True\n"
    "def bilinear(x, W, y): return Yes(3)\n",
}


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_no_cheat_scores(arena, code):
    outcomes = arena.run(WRONG, code, exercises=("bilinear",))
    assert status(outcomes[0]) in ("incorrect", "error", "crashed", "undefined", "not evidence")
    arena.check_unharmed()


def test_expected_values_and_secrets_are_nowhere_in_memory(arena):
    code = f"""
found = set()
needle = 'secret {arena.marker[:16]}' + '{arena.marker[16:]}'
import autograder.answers
try:
    autograder.answers.load_answers('bilinear')
    found.add('answers')
except FileNotFoundError:
    pass
except OSError:
    pass
for name, module in list(sys.modules.items()):
    if name.startswith(('solutions', 'autograder.solutions_')): found.add(name)
frame = sys._getframe()
while frame:
    for name in list(frame.f_locals):
        if name in ('expected', 'verdict', 'gradebook', 'submissions'): found.add(name)
    frame = frame.f_back
gc.collect()
for one in gc.get_objects():
    if type(one) is dict and any(type(k) is str and k in ('expected', 'answers_of') for k in list(one)) and \\
            one is not vars() and '__builtins__' not in one: found.add('dict')
    if type(one) in (str,) and one == needle: found.add('secret')
raise LookupError(str(found))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason.endswith("raised LookupError: set()"), outcome.reason


def test_check_and_its_friends_are_harmless(arena):
    code = WRONG + "from autograder import check, hint, progress, solution\nimport autograder\n"
    code += "leaks = [check(bilinear), hint(bilinear), solution('bilinear'), progress(), autograder.check(bilinear)]\n"
    code += "raise LookupError(str(leaks))"
    [outcome] = arena.run(code, exercises=("outer_sum",))
    assert outcome.reason.endswith("raised LookupError: [None, None, None, None, None]")
