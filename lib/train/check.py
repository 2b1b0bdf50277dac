"""The check before a training: everything that it needs is looked at, and all that is wrong is said at once."""

from easydict import EasyDict
from torch import nn

from lib.config import ConfigError
from lib.train.checks.data import check_data, usable_validation
from lib.train.checks.output import check_space, find_progress
from lib.train.checks.report import Finding, Report, ok, problem
from lib.train.checks.settings import check_device, check_sampling, check_settings
from lib.train.checks.weights import check_start, check_teacher, outline
from lib.train.options import RunOptions

__all__ = ["Finding", "Report", "check_run", "check_sampling", "usable_validation"]


def check_run(options: RunOptions, cfg: EasyDict) -> Report:
    """Look at all that a training needs: settings, device, weights, data sets, and where it writes.

    Nothing is downloaded, and nothing written but what COCO and ImageNet VID keep of their annotations on first use.

    Args:
        options: what the command line says.
        cfg: the effective configuration.

    Returns:
        What was found; `Report.require` stops where something is wrong.
    """
    findings = [*check_settings(options, cfg), *check_device(options, cfg)]
    net: nn.Module | None = None
    try:
        net = outline(options.script, cfg)
        size = sum(parameter.numel() for parameter in net.parameters())
        findings.append(
            ok("network", f"{type(net).__name__} with {cfg.MODEL.BACKBONE.TYPE}: {size / 1e6:.2f} M weights")
        )
    except ConfigError as error:
        findings.append(problem("network", str(error)))
    progress = find_progress(options, cfg, net)
    findings += check_start(options, cfg, net, progress.begun)
    findings += check_teacher(options, cfg)
    findings += check_data(options, cfg)
    findings += progress.findings
    if net is not None:
        findings += check_space(options, cfg, net, progress)
    return Report(findings)
