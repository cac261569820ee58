"""Scripts as programs: started as a person or a playbook starts them, with an environment of their own."""

import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import pytest

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass(frozen=True)
class Ran:
    """What came of a script."""

    status: int
    lines: list[dict[str, Any]]
    stderr: str

    @property
    def results(self) -> dict[str, str]:
        """Target -> result."""
        return {line["target"]: line["result"] for line in self.lines if "target" in line}

    def line(self, target: str) -> dict[str, Any]:
        (found,) = [line for line in self.lines if line.get("target") == target]
        return found


@pytest.fixture
def run_script(project: Path) -> Callable[..., Ran]:
    """`run_script(name, *flags, request=..., environ=...)` runs `scripts/shutdown/<name>`; no request is an empty stdin."""

    def run(name: str, *flags: str, request: Any = None, environ: dict[str, str] | None = None) -> Ran:
        content = request if isinstance(request, bytes) else b"" if request is None else json.dumps(request).encode()
        done = subprocess.run(
            [project / "scripts" / "shutdown" / name, *flags],
            input=content,
            capture_output=True,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | (environ or {}),
            timeout=240,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return Ran(done.returncode, lines, done.stderr.decode())

    return run


@pytest.fixture
def load_script(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script, for what no server can be brought to show."""

    def load(name: str) -> ModuleType:
        folder = project / "scripts" / "shutdown"
        monkeypatch.syspath_prepend(str(folder))
        loader = SourceFileLoader(name, str(folder / name))
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    return load


@pytest.fixture
def aws(moto: str) -> dict[str, str]:
    """Environment of a script that talks to an empty AWS."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST")).close()
    return CREDENTIALS | {"AWS_REGION": REGION, "AWS_ENDPOINT_URL": moto}


@pytest.fixture
def client(aws: dict[str, str]) -> Iterator[Callable[[str], Any]]:
    """boto3 clients of that AWS."""
    opened = []

    def make(service: str) -> Any:
        made = boto3.client(
            service,
            region_name=REGION,
            endpoint_url=aws["AWS_ENDPOINT_URL"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


@dataclass
class Fleet:
    """The EC2 instances of a test."""

    ec2: "EC2Client"

    def launch(self, **tags: str) -> str:
        """A running instance; `__` in a tag's name stands for a colon."""
        pairs: list[Any] = [{"Key": key.replace("__", ":"), "Value": value} for key, value in tags.items()]
        specification: Any = [{"ResourceType": "instance", "Tags": pairs}] if pairs else []
        answer = self.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=specification)
        return answer["Instances"][0]["InstanceId"]

    def states(self) -> dict[str, str]:
        pages = self.ec2.get_paginator("describe_instances").paginate()
        return {one["InstanceId"]: one["State"]["Name"] for page in pages for group in page["Reservations"] for one in group["Instances"]}

    def tags(self, instance: str) -> dict[str, str]:
        answer = self.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [instance]}])
        return {tag["Key"]: tag["Value"] for tag in answer["Tags"]}


@pytest.fixture
def fleet(client: Callable[[str], Any]) -> Fleet:
    return Fleet(client("ec2"))
