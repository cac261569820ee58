"""Rules, routes, dashboards, scripts and their documents: what ships beside the package, and copies of it."""

from costwarden.artifacts.exported import export_artifacts, shipped_files
from costwarden.artifacts.files import FOLDERS, ArtifactError, artifact_path, artifacts_root, list_artifacts

__all__ = ["FOLDERS", "ArtifactError", "artifact_path", "artifacts_root", "export_artifacts", "list_artifacts", "shipped_files"]
