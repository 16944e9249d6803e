"""docs/recipes.md: steps of CI systems, Terraform and Git hooks, each run with what its tool sets."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from support.processes import until
from support.recipe_machine import PATIENCE, Machine, machine
from support.recipes_page import block, promises

pytestmark = pytest.mark.e2e

SHA = "731f7ea6b8f8f2c9d0ff3c6c7d7a1a2b3c4d5e6f"

#: What Jenkins sets for a build, and the recipe's `withEnv`.
JENKINS = {
    "BUILD_TAG": "jenkins-shop-main-7",
    "JOB_NAME": "shop/main",
    "BUILD_URL": "https://ci.test/job/shop/job/main/7/",
}
#: The values of the expressions in the step for GitHub, by their text.
GITHUB_EXPRESSIONS = {
    "vars.ONESHOTD_URL": "http://localhost:8090",
    "secrets.ONESHOTD_TOKEN": "0123456789abcdef",
    "job.status": "success",
    "github.repository_id": "1234",
    "github.run_id": "99",
    "github.run_attempt": "1",
    "github.job": "test",
    "strategy.job-index": "0",
}
GITHUB = {
    "GITHUB_REPOSITORY": "ann/shop",
    "GITHUB_JOB": "test",
    "GITHUB_REF": "refs/heads/a&b",
    "GITHUB_SHA": SHA,
    "GITHUB_SERVER_URL": "https://github.test",
    "GITHUB_RUN_ID": "99",
}
GITLAB = {
    "ONESHOTD_TOKEN": "0123456789abcdef",
    "CI_SERVER_HOST": "gitlab.test",
    "CI_JOB_ID": "4711",
    "CI_PROJECT_PATH": "shop/web",
    "CI_JOB_NAME": "test",
    "CI_JOB_STATUS": "success",
    "CI_COMMIT_REF_NAME": "a&b",
    "CI_COMMIT_SHA": SHA,
    "CI_JOB_URL": "https://gitlab.test/shop/web/-/jobs/4711",
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def check_counts_once(here: Machine, heading: str, command: tuple[str, ...], env: Mapping[str, str]) -> None:
    """Run a step twice: one sample, as the chapter promises."""
    for _ in range(2):
        here.run(*command, **env)
    assert here.samples() == promises(heading)
    assert here.duplicates() == 1


def test_jenkins(here: Machine) -> None:
    text = block("Jenkins", "groovy")
    (script,) = re.findall(r"sh '''\n(.*?)'''", text, re.DOTALL)
    (settings,) = re.findall(r"withEnv\(\[(.*?)\]\)", text)
    assert re.findall(r'"(\w+)=\$\{([^}]+)\}"', settings) == [
        ("RESULT", "currentBuild.currentResult"),
        ("SECONDS_TAKEN", "currentBuild.duration / 1000"),
    ]
    # In a text of Groovy a backslash at the end of a line joins the lines, as the shell does.
    command = ("sh", "-xe", "-c", here.adapted(textwrap.dedent(script)))
    check_counts_once(here, "Jenkins", command, {**JENKINS, "RESULT": "SUCCESS", "SECONDS_TAKEN": "12.5"})
    (event,) = here.events(type="build")
    assert event["detail"] == {"url": JENKINS["BUILD_URL"]}
    here.daemon.stop()
    here.run(*command, **JENKINS, RESULT="SUCCESS", SECONDS_TAKEN="12.5")  # the build does not fail
    here.daemon.start()


def test_github_actions(here: Machine) -> None:
    (step,) = yaml.safe_load(block("GitHub Actions", "yaml"))
    assert (step["if"], step["continue-on-error"]) == ("always()", True)
    env = {
        name: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: GITHUB_EXPRESSIONS[found[1]], text)
        for name, text in step["env"].items()
    }
    env["ONESHOTD_URL"] = here.daemon.url
    script = here.folder / "step.sh"
    script.write_text(step["run"])
    check_counts_once(here, "GitHub Actions", ("bash", "-e", str(script)), {**GITHUB, **env})
    (event,) = here.events(type="build")
    assert event["detail"] == {
        "ref": "refs/heads/a&b",
        "sha": SHA,
        "url": "https://github.test/ann/shop/actions/runs/99",
    }
    here.run("bash", "-e", str(script), **{**GITHUB, **env, "KEY": env["KEY"].replace("-0", "-1")})
    assert len(here.await_events(2, type="build")) == 2  # another job of the matrix


def test_gitlab_ci(here: Machine) -> None:
    (line,) = yaml.safe_load(block("GitLab CI", "yaml"))["default"]["after_script"]
    check_counts_once(here, "GitLab CI", ("sh", "-c", line), GITLAB)
    (event,) = here.events(type="build")
    assert event["detail"] == {"ref": "a&b", "sha": SHA, "url": GITLAB["CI_JOB_URL"]}


def test_the_command_of_terraform(here: Machine) -> None:
    text = block("Terraform", "hcl")
    (command,) = re.findall(r'command +=\s*"((?:[^"\\]|\\.)*)"', text)
    (names,) = re.findall(r"environment = \{ (.+) \}", text)
    assert names == "ID = self.id, RELEASE = var.release"
    words = ("sh", "-c", command.replace(r"\"", '"'))
    check_counts_once(here, "Terraform", words, {"ID": "52d6ae5b", "RELEASE": "1.2"})


def test_terraform(here: Machine) -> None:
    """The resource needs no provider but the one that is built in."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed, and no archive has it")
    (here.folder / "main.tf").write_text(block("Terraform", "hcl"))
    (here.folder / "none.tfrc").touch()
    quiet = {"TF_CLI_CONFIG_FILE": str(here.folder / "none.tfrc"), "CHECKPOINT_DISABLE": "1"}
    here.run("terraform", "init", "-no-color", **quiet)
    for release in ("1.2", "1.2", "1.3"):
        here.run(
            *("terraform", "apply", "-no-color", "-auto-approve", "-input=false", f"-var=release={release}"),
            **quiet,
        )
    first, second = here.await_events(2, type="deploy")
    assert (first["labels"]["version"], second["labels"]["version"]) == ("1.2", "1.3")
    assert promises("Terraform")[0] in here.samples()


def git(here: Machine, folder: Path, *words: str) -> str:
    """Run git without anybody's settings."""
    names = {
        f"GIT_{who}_{what}": f"{what}@shop.test"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    return here.run(
        "git", *words, folder=folder, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", **names
    ).strip()


def test_git_hooks(here: Machine) -> None:
    """Each push and each commit is an event, and a daemon that is away stops neither."""
    server, clone = here.folder / "shop.git", here.folder / "shop"
    git(here, here.folder, "init", "-q", "--bare", "-b", "main", str(server))
    git(here, here.folder, "init", "-q", "-b", "main", str(clone))
    hook = here.install(server / "hooks" / "post-receive", block("Git hooks", "sh", 0))
    here.install(clone / ".git" / "hooks" / "post-commit", block("Git hooks", "sh", 1))
    git(here, clone, "commit", "-q", "--allow-empty", "-m", "a & b = 100 %")
    sha = git(here, clone, "rev-parse", "HEAD")
    git(here, clone, "push", "-q", str(server), "main", "main:refs/heads/a&b")
    (commit,) = here.await_events(1, type="commit")
    assert commit["detail"] == {"sha": sha, "ref": "refs/heads/main", "text": "a & b = 100 %"}
    pushes = here.await_events(2, type="push")
    assert {event["detail"]["ref"] for event in pushes} == {"refs/heads/main", "refs/heads/a&b"}
    assert {(event["detail"]["sha"], event["detail"]["before"]) for event in pushes} == {(sha, "0" * 40)}
    push, made = promises("Git hooks")
    assert sorted(here.samples()) == sorted([made, push.replace("} 1", "} 2")])
    # The hook once more with the same line.
    line = f"{'0' * 40} {sha} refs/heads/main\n"
    subprocess.run(
        [str(hook)], cwd=server, env=here.variables, input=line.encode(), check=True, timeout=PATIENCE
    )
    until(lambda: here.duplicates() == 1, PATIENCE, "a duplicate")
    here.daemon.stop()
    git(here, clone, "commit", "-q", "--allow-empty", "-m", "while the daemon is away")
    git(here, clone, "push", "-q", str(server), "main")
    here.daemon.start()
    late = here.await_events(3, type="push")[-1]
    assert (late["detail"]["before"], late["detail"]["sha"]) == (sha, git(here, clone, "rev-parse", "HEAD"))
    assert len(here.events(type="commit")) == 1
