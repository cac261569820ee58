"""AWS: the costs of one account or many from Cost Explorer, with its forecast, the budgets of AWS Budgets and the sizes of S3 buckets."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from costwarden.sources import Change, Failed, Gone, KnownPart, SourceError, Stated, Surroundings, Window
from costwarden.sources.attribution import Attribution
from costwarden.sources.aws_account import REQUEST_NANOS, STATED, AccountReader, Shared
from costwarden.sources.aws_budgets import describe_budgets
from costwarden.sources.aws_session import AwsSession, Calls
from costwarden.sources.currency import Rates
from costwarden.sources.settings import AttributionSettings, AwsAccess, AwsSettings, ExchangeRates
from costwarden.sources.settings.aws import COST_EXPLORER_USD, AwsAccount
from costwarden.sources.windows import ONE_DAY

log = structlog.get_logger()


class AwsSource:
    """Reads accounts one after the other; what one fails at stays as it was, and the others are read.

    Days are parts named `ACCOUNT/YYYY-MM-DD`; an account that could not be read is the part `ACCOUNT`, and what is stated beside the costs
    and could not be read is `ACCOUNT/forecast`, `ACCOUNT/budgets` or `ACCOUNT/buckets`.
    """

    def __init__(self, settings: AwsSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings) -> None:
        self._settings = settings
        self._requests = surroundings.requests
        self._calls = Calls()
        self._shared = Shared(settings, Attribution(attribution), Rates(rates), self._requests, self._calls)
        self._base: AwsSession | None = None

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """The changes of all accounts. Raises `SourceError` where none could be read."""
        members: dict[str, set[str]] = {}
        failures: dict[str, str] = {}
        for account in self._in_turn(known):
            number = account.number if account else ""
            try:
                reader = AccountReader(self._shared, self._session(account), known, window)
                if account is None:
                    self._refuse_another(reader.number, known)
                changes = reader.changes()
            except SourceError as error:
                if self._calls.ended or account is None:
                    raise
                failures[number] = str(error)
                continue
            except Exception as error:
                if account is None:
                    raise
                log.exception("account not read; its figures stay", source=self._settings.name, account=number)
                failures[number] = f"{type(error).__name__}: {error}"
                continue
            members[reader.number] = reader.members
            yield from changes
        if not members:
            raise SourceError("; ".join(f"account {number}: {error}" for number, error in failures.items()))
        self._refuse_twice(members)
        for number, failure in failures.items():
            yield Failed(part=number, message=f"account {number}: {failure}")
        yield from (Gone(part=number) for number in members if number in known)
        # Where one fails that has come in the place of another, the figures of that one are the best there are.
        if not failures:
            yield from _left(known, members.keys())

    def probe(self) -> Iterator[str]:
        """Ask each account for what yesterday cost."""
        failures = []
        for account in self._settings.accounts or (None,):
            number = account.number if account else ""
            try:
                session = self._session(account)
                number = session.identify()
                yield f"account {number}: the credentials are good"
                yield from self._probe(session, number)
            except SourceError as error:
                failures.append(f"account {number}: {error}" if number else str(error))
        if failures:
            raise SourceError("; ".join(failures))

    def close(self) -> None:
        """End the request that another thread waits for."""
        self._calls.end()

    def _in_turn(self, known: Mapping[str, KnownPart]) -> Sequence[AwsAccount | None]:
        """The accounts, those first that failed the last time: the limit of a day must not always meet the same ones."""
        failed = {part for part, found in known.items() if found.state == "failed"}
        return sorted(self._settings.accounts, key=lambda account: account.number not in failed) or (None,)

    def _refuse_another(self, number: str, known: Mapping[str, KnownPart]) -> None:
        """Raises `SourceError` where nothing but the credentials says which account is read, and they are another one's than before."""
        access = self._settings.access
        before = sorted({part.partition("/")[0] for part in known})
        if before and number not in before and not access.account_id and not access.role_arn:
            raise SourceError(
                f"these credentials belong to account {number}, the figures so far to {', '.join(before)}: set `access.account_id`, "
                "or give the source another name"
            )

    def _session(self, account: AwsAccount | None) -> AwsSession:
        if self._base is None:
            self._base = AwsSession(self._settings.access, self._requests, calls=self._calls)
        if account is None:
            return self._base
        role = {"role_arn": account.role_arn, "external_id": account.external_id, "account_id": account.number}
        access = AwsAccess.model_validate(self._settings.access.model_dump() | role)
        return AwsSession(access, self._requests, base=self._base, calls=self._calls)

    def _probe(self, session: AwsSession, account: str) -> Iterator[str]:
        client = session.client("ce", cost=REQUEST_NANOS)
        day = datetime.now(UTC).date() - ONE_DAY
        # Not through the kept answers: whether the right is there now is what is to be found out, and nothing that is free tells.
        answer = session.ask(
            lambda: client.get_cost_and_usage(
                TimePeriod={"Start": day.isoformat(), "End": (day + ONE_DAY).isoformat()},
                Granularity="DAILY",
                Metrics=[self._settings.billed_metric],
            )
        )
        costs = [result["Total"][self._settings.billed_metric] for result in answer["ResultsByTime"] if result.get("Total")]
        amounts = ", ".join(f"{cost['Amount']} {cost['Unit']}" for cost in costs) or "nothing yet"
        yield f"account {account}: Cost Explorer answers; {day} has cost {amounts} so far (this request cost ${COST_EXPLORER_USD})"
        if self._settings.budgets:
            yield f"account {account}: AWS Budgets answers; budgets kept there: {len(describe_budgets(session, account))}"

    @staticmethod
    def _refuse_twice(members: Mapping[str, set[str]]) -> None:
        for payer, found in members.items():
            if twice := sorted(found & (members.keys() - {payer})):
                raise SourceError(f"account {twice[0]} is in the bill of {payer} already: take it out of `accounts`, else it counts twice")


def _left(known: Mapping[str, KnownPart], accounts: Collection[str]) -> Iterator[Change]:
    """Takes back what accounts hold that are configured no more: their cost may be in another one's bill now."""
    left = {part.partition("/")[0] for part in known} - set(accounts)
    yield from (Gone(part=part) for part in known if part.partition("/")[0] in left)
    yield from (Stated(part=f"{account}/{what}") for account in sorted(left) for what in STATED)
