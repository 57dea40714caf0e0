"""The README cannot drift: its tables are made from the contract, and its example runs against a real relay."""

import asyncio
import re
from pathlib import Path

import pytest

from crdtmed.contract_tables import conflicts_table, gates_table, policies_table
from tests.scenarios.hospital import Hospital, hospital

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "table"),
    [("policies", policies_table()), ("gates", gates_table()), ("conflicts", conflicts_table())],
)
def test_the_tables_are_those_of_the_contract(name: str, table: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found is not None
    assert found[1] == table, f"write this between the marks of {name}:\n{table}"


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 40
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    main = names["main"]
    assert callable(main)

    async def run(it: Hospital) -> None:
        code = await asyncio.to_thread(it._code, ["ward", "pharm"])
        await asyncio.wait_for(main(tmp_path / "tablet", f"ws://127.0.0.1:{it.port}", code), 60)

    async def whole() -> None:
        async with hospital(tmp_path) as it:
            await run(it)

    asyncio.run(whole())
    assert capsys.readouterr().out.splitlines() == [
        "signing: accepted",
        "offline: pending and 1 in the outbox",
        "online again: accepted",
    ]


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), f"README.md links to {target}, which is not there"
