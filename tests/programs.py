"""The programs and the dataclasses of their options."""

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
