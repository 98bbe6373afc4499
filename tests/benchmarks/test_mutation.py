from src.utils.config import REPOSITORY
from src.utils.files import read_json
from tests.benchmarks import mutation
from tests.benchmarks.readme import TESTS, section


def test_every_file_of_the_two_rooms_is_mutated_and_mirrored_by_tests() -> None:
    files = list(mutation.mutated_files())
    assert len(files) >= 15 and {"model/bert.py", "data/readers.py"} <= set(files)
    for name in files:
        room, file = name.split("/")
        assert list((REPOSITORY / "tests" / room).glob(f"test_{file.removesuffix('.py')}*.py")), name


def test_the_package_gets_its_other_name_in_imports_and_strings_only() -> None:
    code = "from src import train\nfrom src.data import hub\nimport src.model.bert\n"
    code += 'patch("src.data.hub.x")\nsrc = a / "src"\n'
    other = mutation.PACKAGE
    assert mutation.renamed(code) == (
        f"from {other} import train\nfrom {other}.data import hub\nimport {other}.model.bert\n"
        f'patch("{other}.data.hub.x")\nsrc = a / "src"\n'
    )


def test_verdicts_count_every_end_of_the_tests() -> None:
    codes = {"a": 1, "b": 0, "c": 33, "d": 3, "e": -24, "f": None, "g": 5, "h": 34}
    assert mutation.verdicts(codes) == {"mutants": 6, "killed": 3, "alive": ["b", "c", "g"]}


def test_the_table_in_readme_is_the_one_of_the_verdicts() -> None:
    assert section(TESTS, "mutation") == mutation.table(read_json(mutation.RESULTS))
