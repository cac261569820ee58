"""Writes docs/costwarden.example.yaml: every key that the models know, its docstring as a comment, and its default."""

import textwrap
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from costwarden.config import Config
from costwarden.strict_yaml import models_in

WIDTH = 140
INDENT = "  "

HEAD = """Every key of `costwarden.yaml`. All may be left out but those marked `Required.`; what a list or a mapping holds is an example.
Where another value than the default stands, its comment ends with the default. `costwarden check-config` checks a file; after a
change SIGHUP or POST /-/reload has a running server read it again. Relative paths are meant from the directory of the file.

Written from the docstrings of the settings by `make golden`: change them, not this file."""

EXAMPLES: dict[str, Any] = {
    "auth": {
        "tokens": [
            {"name": "prometheus", "role": "viewer", "secret": {"file": "tokens/prometheus"}},
            {"name": "alertmanager", "role": "alertmanager", "secret": {"file": "tokens/alertmanager"}},
            {"name": "applications", "role": "service", "secret": {"file": "tokens/applications"}},
            {"name": "on-call", "role": "operator", "secret": {"file": "tokens/on-call"}},
            {"name": "deployment", "role": "admin", "secret": {"env": "COSTWARDEN_ADMIN_TOKEN"}},
            {"name": "acme", "role": "tenant-admin", "tenant_id": "acme", "secret": {"file": "tokens/acme"}},
        ],
        "jwt": {"jwks_url": "https://id.example.com/keys", "issuer": "https://id.example.com", "audience": ["costwarden"]},
    },
    "sources": [
        {"name": "bills", "path": "bills/aws"},
        {"name": "oracle", "path": "/var/lib/bills/oracle", "default_currency": "EUR", "interval_seconds": 3600},
        {"type": "aws", "name": "aws", "accounts": [{"role_arn": "arn:aws:iam::111122223333:role/costwarden", "external_id": "acme-4711"}]},
        {"type": "gcp", "name": "gcp", "table": "acme-billing.export.gcp_billing_export_v1_0123AB_4567CD_89EF01"},
        {"type": "azure", "name": "azure", "scopes": ["/subscriptions/00000000-0000-0000-0000-000000000000"]},
        {"type": "kubernetes", "name": "prod-eu", "url": "http://opencost.opencost.svc:9003", "cluster": "prod-eu", "billed_by": "aws"},
        {"type": "openai", "name": "openai", "admin_key": {"file": "secrets/openai-admin-key"}},
        {"type": "anthropic", "name": "anthropic", "admin_key": {"env": "ANTHROPIC_ADMIN_KEY"}},
        {"type": "bedrock", "name": "bedrock", "regions": ["us-east-1", "eu-west-1"]},
        {"type": "vertex", "name": "vertex", "projects": ["acme-prod"]},
    ],
    "attribution": {
        "rules": [
            {
                "target": "team",
                "origins": ["tag:cost-center", "sub_account_id"],
                "values": {"4711": "search", "47*": "platform", "123456789012": "data"},
            },
            {"target": "environment", "origins": ["sub_account_id"], "values": {"123456789012": "dev"}},
        ]
    },
    "exchange_rates": {
        "currencies": {"EUR": [{"valid_from": date(2025, 1, 1), "usd": 1.0389}, {"valid_from": date(2025, 2, 1), "usd": 1.0393}]}
    },
    "pricing": {
        "overrides": [
            {
                "valid_from": date(2025, 1, 1),
                "provider": "anthropic",
                "model": "claude-3-5-sonnet*",
                "input_usd_mtok": 2.7,
                "output_usd_mtok": 13.5,
            },
            {"valid_from": date(2025, 7, 1), "model": "in-house-*", "input_usd_mtok": 0.2, "output_usd_mtok": 0.2},
            {"valid_from": date(2025, 1, 1), "operation": "image_generation", "usd_per_image": 0.04},
        ],
        "cheaper_models": [{"model": "claude-3-5-haiku-20241022", "provider": "anthropic"}, {"model": "gpt-4o-mini"}],
    },
    "budgets": {
        "configured": [
            {"name": "acme", "scope": {"tenant_id": "acme"}, "limit_usd": 500, "action": "suspend-ai-tenant"},
            {"name": "reports-daily", "scope": {"feature": "reports"}, "period": "day", "limit_usd": 25.5},
            {"name": "globex", "scope": {"tenant_id": "globex"}, "tier": "enterprise"},
            {"name": "everything", "limit_usd": 20000, "soft_limit_ratio": 0.9},
        ]
    },
    "guardrails": [
        {"name": "daily", "metric": "daily_cost", "threshold_usd": 1000, "severity": "high", "actions": ["alert", "notify"]},
        {
            "name": "acme-hourly",
            "metric": "hourly_cost",
            "scope": {"tenant_id": "acme"},
            "threshold_usd": 50,
            "actions": ["suspend-ai-tenant"],
        },
        {"name": "cap", "metric": "monthly_cost", "threshold_usd": 25000, "severity": "critical", "actions": ["block_requests"]},
        {
            "name": "runaway",
            "metric": "hourly_cost",
            "trailing": True,
            "threshold_usd": 5000,
            "severity": "emergency",
            "actions": ["alert", "emergency_stop"],
            "cool_down_minutes": 240,
        },
    ],
    "cloudwatch": {"sns_topic_arn": "arn:aws:sns:us-east-1:123456789012:visualneurons-cost-alerts"},
    "reconciliation": {
        "providers": [
            {
                "provider": "openai",
                "usage_providers": ["openai"],
                "models": ["gpt-[0-9]*", "o3*"],
                "bills": [{"provider": "openai", "source": "openai"}],
            },
            {"provider": "azure-openai", "usage_providers": ["azure"], "bills": [{"provider": "azure", "services": ["*OpenAI*"]}]},
        ]
    },
    "otlp": {"cached_tokens": {"my-own-tracer": "excluded"}},
    "cloud_budgets": [
        {"name": "aws", "monthly_limit_usd": 10000, "scope": {"provider": "aws"}},
        {"name": "aws-dev", "monthly_limit_usd": 1000, "scope": {"provider": "aws", "environment": "dev"}, "action": "stop-dev-ec2"},
    ],
    "remediation": {
        "playbooks": [
            {
                "name": "suspend-ai-tenant",
                "script": ["shutdown/suspend_ai_tenant"],
                "parameters": {"url": "http://127.0.0.1:3010", "token_file": "/run/costwarden/tokens/on-call"},
                "parameters_from_labels": {"tenant_id": "tenant_id"},
                "max_targets": 1,
            },
            {
                "name": "stop-dev-ec2",
                "script": ["shutdown/stop_ec2_instances"],
                "mode": "approve",
                "parameters": {"region": "eu-central-1", "tags": {"environment": "dev"}},
                "max_targets_ratio": 0.5,
                "protected_targets": ["i-0abc*"],
                "fresh_sources": ["aws"],
                "pass_environment": ["AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"],
                "environment": {"AWS_MAX_ATTEMPTS": "5"},
            },
        ]
    },
    "notifier": {
        "receivers": [
            {"name": "finance-mail", "url": {"file": "secrets/finance-mail"}},
            {"name": "lead-sms", "url": {"env": "LEAD_SMS_URL"}},
        ],
        "grafana_url": "https://grafana.example.com",
        "runbook_url": "https://docs.example.com/costwarden",
    },
}
"""What stands in lists, and in mappings of any keys. It cannot be a default, which is that there are none."""


def example() -> str:
    """The text of the file."""
    return "\n".join([*_comment(HEAD, ""), *_section(Config, EXAMPLES, "")]) + "\n"


def _section(model: type[BaseModel], examples: dict[str, Any], indent: str) -> list[str]:
    unknown = examples.keys() - model.model_fields.keys()
    assert not unknown, f"{model.__name__} has no {unknown}: mend EXAMPLES"
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if model is Config:
            lines.append("")
        inner = models_in(field.annotation)
        lines += _comment(_about(field, inner, name in examples), indent)
        if _is_section(field) and name not in examples and not field.is_required() and _default(field) is None:
            lines.append(f"{indent}{name}: null")
        elif inner and _is_section(field):
            lines += [f"{indent}{name}:", *_section(inner[0], examples.get(name, {}), indent + INDENT)]
        elif inner and name in examples:
            lines += [f"{indent}{name}:", *_entries(inner, examples[name], indent + INDENT)]
        elif inner:
            lines += [f"{indent}{name}:", *(line for entry in _default(field) for line in _entry(entry, indent + INDENT))]
        else:
            lines.append(f"{indent}{name}: {_flow(examples.get(name, _default(field)))}")
    return lines


def _entries(models: list[type[BaseModel]], examples: Any, indent: str) -> list[str]:
    """The first entry of each kind has every key and its comment, the others what they set."""
    if isinstance(examples, dict):
        return [line for key, entries in examples.items() for line in (f"{indent}{key}:", *_entries(models, entries, indent + INDENT))]
    lines: list[str] = []
    unseen = list(models)
    for entry in examples:
        model = next((found for found in models if is_kind(found, entry)), models[0])
        if model not in unseen:
            lines += _entry(entry, indent)
            continue
        unseen.remove(model)
        if len(models) > 1:
            lines += ["", *_comment(" ".join((model.__doc__ or "").split("\n\n")[0].split()), indent)]
        first, *rest = _section(model, entry, indent + INDENT)
        lines += [f"{indent}- {first.strip()}", *rest]
    assert not unseen or len(models) == 1, f"no example of {unseen}: mend EXAMPLES"
    return lines


def is_kind(model: type[BaseModel], entry: dict[str, Any]) -> bool:
    """Whether an entry of a list is of this model, told by its `type`."""
    return "type" in model.model_fields and entry.get("type", "focus") in get_args(model.model_fields["type"].annotation)


def _entry(entry: dict[str, Any], indent: str) -> list[str]:
    line = f"{indent}- {_flow(entry)}"
    if len(line) <= WIDTH:
        return [line]
    block = [f"{name}: {_flow(value)}" for name, value in entry.items()]
    return [f"{indent}{'  ' if number else '- '}{line}" for number, line in enumerate(block)]


def _about(field: FieldInfo, inner: list[type[BaseModel]], is_example: bool) -> str:
    paragraphs = [field.description or ""]
    if is_example or _is_section(field):
        # The later paragraphs of a docstring are for those who read the code.
        paragraphs += [model.__doc__.split("\n\n")[0] for model in inner if model.__doc__ and len(inner) == 1]
    if field.is_required():
        paragraphs[0] += " Required."
    elif is_example and not (inner and _is_section(field)):
        default = _flow(_default(field))
        paragraphs[0] += f" Default: `{default}`." if len(default) < WIDTH else " Default: `costwarden check-config --effective` prints it."
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph)


def _is_section(field: FieldInfo) -> bool:
    """Whether the model in it, where there is one, is all of its value."""
    return get_origin(field.annotation) not in {tuple, dict}


def _default(field: FieldInfo) -> Any:
    return _plain(field.get_default(call_default_factory=True))


def _plain(value: Any) -> Any:
    """What YAML has of it."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(exclude_defaults=True))
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, Decimal | float):
        return int(value) if value == int(value) else float(value)
    return str(value) if isinstance(value, Path) else value


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> list[str]:
    lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, WIDTH - len(indent) - 2) or [""]]
    return [f"{indent}# {line}".rstrip() for line in lines]
