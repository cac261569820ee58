"""JSON Web Tokens: whose signature holds, what the claims must say, and what happens when the provider is away."""

import http.server
import json
import threading
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KEY = "a shared key of at least thirty-two bytes"

RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(kid, key, **more):
    """The JSON Web Key of a private key."""
    kind = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm, ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm}
    found = next((algorithm for private, algorithm in kind.items() if isinstance(key, private)), jwt.algorithms.OKPAlgorithm)
    return {**json.loads(found.to_jwk(key.public_key())), "kid": kid, "use": "sig", **more}


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**more):
    return {"sub": "alice", "role": "admin", "exp": time.time() + 600, **more}


def signed(key=KEY, algorithm="HS256", kid=None, **more):
    return jwt.encode(claims(**more), key, algorithm, {"kid": kid} if kid else None)


@pytest.fixture
def shared(server_of, secret):
    """A server with the shared key."""

    def make(**more):
        server = server_of(jwt={"shared_key": secret(KEY), **more})
        server.page.render()
        return server

    return make


def ask(server, token):
    return server.get("/api/audit", token=token)


# --- what is good --------------------------------------------------------------------------------------------------------------------


def test_a_good_token_acts_under_its_own_name(shared):
    server = shared()
    token = signed()
    assert server.set(5, token=token).status_code == 200
    (entry,) = ask(server, token).json()["entries"]
    assert (entry["actor"], entry["action"]) == ("alice", "set_budget")


def test_static_tokens_go_on_beside_signed_ones(server_of, secret):
    server = server_of(jwt={"shared_key": secret(KEY)}, tokens=[{"name": "ops", "role": "admin", "secret": secret("a.static.token")}])
    assert [ask(server, token).status_code for token in ("a.static.token", signed(), "another.static.token")] == [200, 200, 401]


def test_claims_may_have_other_names_and_roles_may_be_a_list(shared):
    server = shared(role_claim="groups", tenant_claim="org", name_claim="email")
    more = {"groups": ["staff", "viewer", 7], "org": "acme", "email": "alice@example.com"}
    server.set(5, "acme", token=signed(groups="admin", email="root"))
    assert server.get("/api/ai-budget/tenant/acme", token=signed(**more)).status_code == 200
    assert server.get("/api/ai-budget/tenant/globex", token=signed(**more)).status_code == 403


def test_issuer_and_audience_are_held_to_what_is_configured(shared, problem_of):
    server = shared(issuer="https://id.example.com", audience=["costwarden", "finops"])
    good = {"iss": "https://id.example.com", "aud": ["other", "finops"]}
    assert ask(server, signed(**good)).status_code == 200
    for wrong, sentence in [
        ({**good, "iss": "https://evil.example.com"}, "it is from another issuer"),
        ({**good, "aud": "other"}, "it is for another audience"),
        ({"iss": good["iss"]}, "it lacks a claim that it needs (`exp`, and `iss` and `aud` where they are configured)"),
    ]:
        assert problem_of(ask(server, signed(**wrong)), 401, "unauthenticated")["detail"] == f"the token is refused: {sentence}"


# --- what is not -----------------------------------------------------------------------------------------------------------------------


def hostile_tokens():
    good = signed()
    header, payload, signature = good.split(".")
    none = jwt.encode(claims(), None, "none")
    yield "no signature", none
    yield "no signature, capitals", none.replace(none.split(".")[0], jwt.utils.base64url_encode(b'{"alg":"NONE","typ":"JWT"}').decode())
    yield "signature cut off", f"{header}.{payload}."
    yield "another payload", f"{header}.{jwt.utils.base64url_encode(json.dumps(claims(sub='root')).encode()).decode()}.{signature}"
    yield "another key", signed("another key of at least thirty-two bytes")
    yield "another algorithm", signed(KEY * 2, "HS512")
    yield "an algorithm with public keys", signed(RSA, "RS256")
    yield "expired", signed(exp=time.time() - 31)
    yield "not valid yet", signed(nbf=time.time() + 86_400, exp=time.time() + 172_800)
    yield "for somebody else", signed(aud="other")
    yield "without end", jwt.encode({"sub": "alice", "role": "admin"}, KEY, "HS256")
    yield "critical header", jwt.encode(claims(), KEY, "HS256", {"crit": ["exp"], "exp": 1})
    yield "no JSON", "!!.!!.!!"
    yield "nothing", ".."


@pytest.mark.parametrize("name", sorted(dict(hostile_tokens())))
def test_a_token_that_was_not_signed_for_us_lets_nobody_in(shared, problem_of, name):
    # Made now: one that was made with the tests may have expired, and is refused for that.
    answer = ask(shared(), dict(hostile_tokens())[name])
    problem = problem_of(answer, 401, "unauthenticated")
    assert "alice" not in problem["detail"]
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"role": "root"}, "the token's claim `role` must name exactly one role"),
        ({"role": ["viewer", "admin"]}, "the token's claim `role` must name exactly one role"),
        ({"role": None}, "the token's claim `role` must name exactly one role"),
        ({"role": "viewer"}, "the token has no claim `tenant_id`, and the role `viewer` is not in `auth.jwt.every_tenant`"),
        ({"role": "service"}, "the token has no claim `tenant_id`, and the role `service` is not in `auth.jwt.every_tenant`"),
        ({"tenant_id": ""}, "the token's claim `tenant_id` names no tenant"),
        ({"tenant_id": "a\0b"}, "the token's claim `tenant_id` names no tenant"),
        ({"tenant_id": ["acme"]}, "the token's claim `tenant_id` names no tenant"),
        ({"tenant_id": "x" * 257}, "the token's claim `tenant_id` names no tenant"),
        ({"sub": ""}, "the token's claim `sub` names nobody"),
        ({"sub": "alice\nroot"}, "the token's claim `sub` names nobody"),
    ],
)
def test_a_good_signature_under_claims_that_say_too_little_is_403(shared, problem_of, more, sentence):
    assert problem_of(ask(shared(), signed(**more)), 403, "forbidden")["detail"] == sentence


def test_a_claim_that_is_null_is_not_a_claim_that_is_left_out(shared, problem_of):
    for role in ("admin", "viewer"):
        detail = problem_of(ask(shared(), signed(role=role, tenant_id=None)), 401, "unauthenticated")["detail"]
        assert detail == "the token is refused: its claim `tenant_id` is null; it names a tenant, or is left out"


def test_a_role_may_be_allowed_to_act_for_every_tenant(shared):
    server = shared(every_tenant=["service"], audience=[])
    assert server.check(1, token=signed(role="service")).status_code == 429  # let in; there is no budget
    assert server.get("/metrics", token=signed(role="operator")).status_code == 403


# --- remembered ------------------------------------------------------------------------------------------------------------------------


def test_a_token_that_is_remembered_ends_when_it_expires(shared, monkeypatch):
    server = shared(leeway_seconds=0)
    turned = [time.time()]
    server.auth._jwt._clock = lambda: turned[0]
    token = signed(exp=turned[0] + 600)
    assert ask(server, token).status_code == 200
    assert len(server.auth._jwt._known) == 1
    # What is remembered is not believed any more; the signature is looked at again, by the real clock.
    turned[0] += 601
    assert server.auth._jwt._remembered(next(iter(server.auth._jwt._known))) is None


def test_the_memory_of_tokens_is_bounded(shared, monkeypatch):
    monkeypatch.setattr("costwarden.api.jwt_tokens.MOST_KNOWN_TOKENS", 5)
    server = shared()
    for number in range(12):
        assert ask(server, signed(jti=str(number))).status_code == 200
    assert len(server.auth._jwt._known) == 5


def test_another_shared_key_in_the_file_ends_what_was_signed_with_the_old_one(server_of, tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY)
    server = server_of(jwt={"shared_key": {"file": str(path)}})
    token = signed()
    assert ask(server, token).status_code == 200
    path.write_text("a new key, of at least thirty-two bytes too")
    assert ask(server, token).status_code == 401
    path.unlink()
    assert ask(server, token).status_code == 503


def test_the_signature_of_a_remembered_token_is_not_checked_again(shared):
    server = shared()
    headers = [(b"authorization", f"Bearer {signed()}".encode())]
    first = server.auth.authorize("administer", headers)
    server.auth._jwt._claims = None
    assert server.auth.authorize("administer", headers) == first


# --- keys that a provider publishes ----------------------------------------------------------------------------------------------------


class Provider:
    """Publishes keys on a real socket; `answer` may be set to another status."""

    def __init__(self):
        self.keys = [public("one", RSA)]
        self.status = 200
        self.fetches = 0
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                provider.fetches += 1
                body = json.dumps({"keys": provider.keys}).encode()
                self.send_response(provider.status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def provider():
    started = Provider()
    yield started
    started.close()


@pytest.fixture
def federated(server_of, provider):
    """A server that takes the provider's keys; its clock of fetches is turned by hand."""

    def make(**more):
        server = server_of(jwt={"jwks_url": provider.url, **more})
        server.elapsed = 0.0
        server.auth._jwt._keys._monotonic = lambda: server.elapsed
        return server

    return make


def test_keys_are_fetched_at_the_first_token_and_kept(federated, provider):
    server = federated()
    server.get("/healthz")
    assert provider.fetches == 0
    for number in range(5):
        assert ask(server, signed(RSA, "RS256", "one", jti=str(number))).status_code == 200
    assert provider.fetches == 1


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "EdDSA")], ids=["RS256", "PS384", "ES256", "EdDSA"]
)
def test_each_kind_of_key_verifies_its_algorithms(federated, provider, key, algorithm):
    provider.keys = [public("k", key)]
    server = federated(algorithms=[algorithm])
    assert ask(server, signed(key, algorithm, "k")).status_code == 200


def test_a_key_for_one_algorithm_verifies_no_other(federated, provider):
    provider.keys = [public("one", RSA, alg="RS256")]
    server = federated(algorithms=["RS256", "PS256"])
    assert ask(server, signed(RSA, "RS256", "one")).status_code == 200
    assert ask(server, signed(RSA, "PS256", "one")).status_code == 401


def test_a_public_key_is_no_shared_key(federated, problem_of):
    # The classic: sign with HMAC, and the published key for the secret.
    header = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    payload = jwt.utils.base64url_encode(json.dumps(claims()).encode())
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(header + b"." + payload, pem(RSA))
    token = b".".join((header, payload, jwt.utils.base64url_encode(signature))).decode()
    problem = problem_of(ask(federated(), token), 401, "unauthenticated")
    assert problem["detail"] == "the token is refused: its algorithm is not accepted"


def test_a_shared_key_among_published_ones_is_ignored(federated, provider):
    provider.keys = [{"kty": "oct", "kid": "oct", "k": jwt.utils.base64url_encode(KEY.encode()).decode()}, public("one", RSA)]
    server = federated()
    assert ask(server, signed(KEY, "HS256", "oct")).status_code == 401
    assert ask(server, signed(RSA, "RS256", "one")).status_code == 200


def test_a_new_key_is_found_by_one_fetch_and_made_up_ones_do_not_hammer_the_provider(federated, provider, problem_of):
    server = federated(jwks_refresh_seconds=30)
    assert ask(server, signed(RSA, "RS256", "one")).status_code == 200
    provider.keys = [public("one", RSA), public("two", OTHER_RSA)]
    token = signed(OTHER_RSA, "RS256", "two")
    problem = problem_of(ask(server, token), 401, "unauthenticated")  # within 30 seconds of the last fetch
    assert problem["detail"] == "the token is refused: it is signed with a key that the identity provider does not publish"
    server.elapsed = 31
    assert ask(server, token).status_code == 200
    for number in range(20):
        assert ask(server, signed(OTHER_RSA, "RS256", f"made-up-{number}")).status_code == 401
    assert provider.fetches == 2


def test_a_key_that_is_withdrawn_ends_the_tokens_that_are_remembered(federated, provider, wait_until):
    server = federated(jwks_max_age_seconds=60)
    token = signed(RSA, "RS256", "one")
    assert ask(server, token).status_code == 200
    provider.keys = [public("two", OTHER_RSA)]
    server.elapsed = 61
    wait_until(lambda: ask(server, token).status_code == 401)


def test_while_the_provider_is_away_known_keys_hold_and_unknown_ones_are_no_yes(federated, provider, problem_of):
    server = federated(jwks_max_age_seconds=60)
    token = signed(RSA, "RS256", "one")
    provider.status = 500
    answer = ask(server, token)
    assert problem_of(answer, 503, "keys_unavailable")["detail"] == "the keys of the identity provider are not there yet"
    assert answer.headers["retry-after"] == "1"
    provider.status, server.elapsed = 200, 31
    assert ask(server, token).status_code == 200
    provider.status, server.elapsed = 500, 1000
    assert ask(server, token).status_code == 200
    assert ask(server, signed(RSA, "RS256", "one", jti="new")).status_code == 200
    assert ask(server, signed(OTHER_RSA, "RS256", "two")).status_code == 401


@pytest.mark.parametrize("keys", [[], [{"kty": "RSA"}], [7], "none", [{"kty": "RSA", "kid": "one", "n": "AQ", "e": "AQAB"}]])
def test_a_set_without_a_usable_key_is_no_set(federated, provider, keys):
    provider.keys = keys
    assert ask(federated(), signed(RSA, "RS256", "one")).status_code in (401, 503)


def test_keys_may_come_from_a_file_that_is_read_again_when_it_changes(server_of, tmp_path, wait_until):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [public("one", RSA)]}))
    server = server_of(jwt={"jwks_file": str(path), "jwks_refresh_seconds": 1})
    token = signed(RSA, "RS256", "one")
    assert ask(server, token).status_code == 200
    path.write_text(json.dumps({"keys": [public("two", OTHER_RSA)]}))
    server.auth._jwt._keys._monotonic = lambda: time.monotonic() + 5
    wait_until(lambda: ask(server, token).status_code == 401)
    assert ask(server, signed(OTHER_RSA, "RS256", "two")).status_code == 200


def test_a_set_with_one_key_verifies_a_token_that_names_none(federated):
    assert ask(federated(), signed(RSA, "RS256")).status_code == 200
