"""The programs and the dataclasses of their options."""

from src.demo import DemoConfig
from src.explain import ExplainConfig
from src.export import ExportConfig
from src.inference import InferenceConfig
from src.utils.config import PretrainConfig, ReportConfig, TrainConfig

PROGRAMS: dict[str, type] = {
    "src.train": TrainConfig,
    "src.pretrain": PretrainConfig,
    "src.inference": InferenceConfig,
    "src.report": ReportConfig,
    "src.explain": ExplainConfig,
    "src.demo": DemoConfig,
    "src.export": ExportConfig,
}
