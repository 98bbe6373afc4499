"""Completion of options in bash and zsh: `source <(python -m src.utils.completion)`."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from src.utils.config import PretrainConfig, TrainConfig
from src.utils.programs import DemoConfig, ExplainConfig, ExportConfig, InferenceConfig, ReportConfig

PROGRAMS: dict[str, type] = {
    "src.train": TrainConfig,
    "src.pretrain": PretrainConfig,
    "src.inference": InferenceConfig,
    "src.report": ReportConfig,
    "src.explain": ExplainConfig,
    "src.demo": DemoConfig,
    "src.export": ExportConfig,
}
# The programs are modules, so that what is completed is the command `python`; anything else than an option of theirs is
# left to the shell, which completes files.
SCRIPT = """\
[ -z "$ZSH_VERSION" ] || {{ autoload -Uz compinit bashcompinit && compinit && bashcompinit; }}
_bert_sst2() {{
    local options=""
    case " ${{COMP_WORDS[*]}} " in
{cases}
    esac
    COMPREPLY=()
    case "${{COMP_WORDS[COMP_CWORD]}}" in
        -*) COMPREPLY=($(compgen -W "$options" -- "${{COMP_WORDS[COMP_CWORD]}}")) ;;
    esac
}}
complete -o default -F _bert_sst2 python python3
"""


def script() -> str:
    """Writes the script that a shell sources."""
    cases = [f'        *" {name} "*) options="{" ".join(_options(config))}" ;;' for name, config in PROGRAMS.items()]
    return SCRIPT.format(cases="\n".join(cases))


def _options(config: Any) -> Iterator[str]:
    """Names the options of a config class and of the groups in it as they are typed."""
    hints = get_type_hints(config)
    for field in fields(config):
        name = field.name.replace("_", "-")
        if is_dataclass(hints[field.name]):
            yield from _options(hints[field.name])
        elif field.default is not MISSING:  # else it is no option but stands alone
            yield f"--{name}"
            if hints[field.name] is bool:
                yield f"--no-{name}"


if __name__ == "__main__":
    print(script(), end="")
