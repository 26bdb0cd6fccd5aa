"""The launch scripts in a folder of their own, where stubs stand in for the programs that they call: a stub notes its arguments, and says and
returns what a test told it to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.commands import Done

ROOT = Path(__file__).parents[2]
# An argument that a shell would take apart.
HARD = "a value with 'one' and \"two\" quotes, $HOME and a * star"
PROGRAM = """#!{python} -ISE
import json, sys
from pathlib import Path

home, name, words = Path({home!r}), Path(sys.argv[0]).name, sys.argv[1:]
with open(home / "calls", "a") as calls:
    print(json.dumps([name, *words]), file=calls)
answers = home / (name + ".answers")
waiting = json.loads(answers.read_text()) if answers.exists() else []
fitting = [answer for answer in waiting if answer["to"] in words]
if fitting:
    if len(fitting) > 1:
        waiting.remove(fitting[0])
        answers.write_text(json.dumps(waiting))
    sys.stdout.write(fitting[0]["out"])
    sys.stderr.write(fitting[0]["err"])
    sys.exit(fitting[0]["code"])
"""


class Answer(NamedTuple):
    """What a stub does at its first call with the word `to`; where there are several for a word, each serves once, and the last from then on."""

    to: str
    out: str = ""
    code: int = 0
    err: str = ""


class Stage(NamedTuple):
    project: Path
    home: Path  # of the stubs

    def stub(self, name: str, *answers: Answer) -> None:
        path = self.home / name
        path.write_text(PROGRAM.format(python=sys.executable, home=str(self.home)))
        path.chmod(0o755)
        (self.home / f"{name}.answers").write_text(json.dumps([answer._asdict() for answer in answers]))

    def calls(self, name: str | None = None) -> list[list[str]]:
        """The calls of one stub, or of all with their names, in order."""
        path = self.home / "calls"
        made = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return made if name is None else [words for called, *words in made if called == name]

    def run(self, script: str, *argv: str, **variables: str) -> Done:
        return self.command(str(self.project / "launch" / script), *argv, **variables)

    def command(self, *words: str, folder: Path | None = None, text: str | None = None, **variables: str) -> Done:
        path = f"{self.home}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(self.home), "POLL_SECONDS": "0", **variables}
        done = subprocess.run(
            words, env=environment, cwd=folder or self.project, input=text, capture_output=True, text=True, timeout=60, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def installed(self, extras: str) -> None:
        """An environment that launch/environment.sh finds as it made it, whose Python is a stub."""
        self.stub("python")
        (self.project / ".venv" / "bin").mkdir(parents=True)
        (self.project / ".venv" / "bin" / "python").symlink_to(self.home / "python")
        stamp = self.command("cksum", text=(self.project / "setup.py").read_text()).out
        (self.project / ".venv" / "installed").write_text(f"{stamp}{extras}\n")


def stage(folder: Path) -> Stage:
    project, home = folder / "the project", folder / "stubs"
    home.mkdir()
    project.mkdir()
    shutil.copytree(ROOT / "launch", project / "launch")
    shutil.copy(ROOT / "setup.py", project)
    return Stage(project, home)


def refusal(done: Done) -> str:
    """The one line of a command line that is refused."""
    assert done.code == 2, done
    assert not done.out
    (line,) = done.err.splitlines()
    assert line.startswith("error: "), line
    return line
