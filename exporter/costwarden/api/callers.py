"""Callers, and the permissions that endpoints ask them for."""

import msgspec

from costwarden.api.problems import Problem
from costwarden.api.settings import Role

ALLOWED: dict[str, frozenset[Role]] = {
    "read": frozenset({"viewer", "tenant-admin", "operator", "admin"}),
    "spend": frozenset({"service", "admin"}),
    "budget": frozenset({"tenant-admin", "admin"}),
    "suspend": frozenset({"tenant-admin", "operator", "admin"}),
    "operate": frozenset({"operator", "admin"}),
    "inspect": frozenset({"viewer", "operator", "admin"}),
    "oversee": frozenset({"operator", "admin"}),
    "administer": frozenset({"admin"}),
    "alert": frozenset({"alertmanager"}),
}
"""Which roles may do what an endpoint asks for."""

OF_THE_WHOLE_SERVER = frozenset({"inspect", "oversee", "administer", "alert"})
"""Permissions to see or do what concerns all tenants together: nobody has them who is bound to one."""


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request."""

    name: str
    """For the audit log."""
    role: Role
    tenant_id: str = ""
    """The only tenant that it sees and acts for; empty is every tenant."""

    def sees(self, tenant_id: str) -> bool:
        """Whether what is of `tenant_id` (empty: of no tenant alone) is there for the caller."""
        return not self.tenant_id or self.tenant_id == tenant_id

    def require_tenant(self, tenant_id: str) -> None:
        """Raises `Problem` 403 where the caller is bound to another tenant."""
        if not self.sees(tenant_id):
            raise Problem(403, "forbidden", f"`{self.name}` acts for the tenant `{self.tenant_id}` alone")

    def tenant_of(self, asked: str | None) -> str | None:
        """The tenant to look for: the one `asked` for, or the only one that the caller sees; None is all. Raises `Problem` 403."""
        if asked is not None:
            self.require_tenant(asked)
        return asked if asked is not None else self.tenant_id or None


def permit(permission: str, caller: Caller) -> None:
    """Raises `Problem` 403 where `caller` has not the permission."""
    if caller.role not in ALLOWED[permission]:
        needed = " or ".join(f"`{role}`" for role in sorted(ALLOWED[permission]))
        raise Problem(403, "forbidden", f"`{caller.name}` has the role `{caller.role}`; this needs {needed}")
    if caller.tenant_id and permission in OF_THE_WHOLE_SERVER:
        detail = f"this concerns all tenants, and `{caller.name}` acts for the tenant `{caller.tenant_id}` alone"
        raise Problem(403, "forbidden", detail)


def unauthenticated(detail: str, challenge: str = 'Bearer error="invalid_token"') -> Problem:
    """401 with the challenge of RFC 6750."""
    return Problem(401, "unauthenticated", detail, headers=((b"www-authenticate", challenge.encode()),))
