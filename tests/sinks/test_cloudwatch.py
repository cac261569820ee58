"""Usage in CloudWatch: each dollar once, at its minute, also after what goes wrong. Real boto3, moto's CloudWatch.

Shapes and limits: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
"""

import threading
from datetime import timedelta

import pytest
from stand_in import Answer, StandIn, pass_on

from costwarden.ledger import Ledger
from costwarden.ledger.sinks import note_sink
from costwarden.metrics.page import Page
from costwarden.metrics.settings import MetricsSettings
from costwarden.metrics.sinks import cloudwatch_collector
from costwarden.model import from_micros
from costwarden.sinks.cloudwatch import CloudwatchSink, Overtaken, Refused
from costwarden.sinks.metric_data import requests_of
from costwarden.sources.requests import RequestLimitReached, SourceError

UPSCALED = {"Provider": "replicate", "Operation": "upscale"}
TWO_WEEKS = 14 * 24 * 60


def forwarding(moto):
    """A stand-in before moto that passes everything on, until it is told to fail."""
    return StandIn(lambda request: pass_on(request, moto))


def test_calls_are_summed_by_the_minute_by_provider_and_in_all(metered, settings, sums, cloudwatch):
    sink = metered.sink(settings())
    metered.call(10_400_000, minutes=0.1)
    metered.call(5_200_000, minutes=0.9)
    metered.call(20_800_000, minutes=1, success=False)
    metered.call(2_000_000, minutes=1, provider="stability", operation="generate")
    sink.send()
    assert sums(**UPSCALED, Success="true") == {0: pytest.approx(0.0104 + 0.0052)}
    assert sums(**UPSCALED, Success="false") == {1: pytest.approx(0.0208)}
    assert sums(Provider="replicate") == {0: pytest.approx(0.0104 + 0.0052), 1: pytest.approx(0.0208)}
    assert sums(Provider="stability") == {1: pytest.approx(0.002)}
    assert sums() == {0: pytest.approx(0.0104 + 0.0052), 1: pytest.approx(0.0208 + 0.002)}
    assert sums("sample_count", **UPSCALED, Success="true") == {0: 2}
    assert sums("max", **UPSCALED, Success="true") == {0: pytest.approx(0.0104)}
    asked = cloudwatch.get_metric_statistics(
        Namespace="VisualNeurons/AI",
        MetricName="OperationCost",
        Dimensions=[{"Name": name, "Value": value} for name, value in {**UPSCALED, "Success": "true"}.items()],
        StartTime=from_micros(metered.now),
        EndTime=from_micros(metered.now) + timedelta(hours=1),
        Period=3600,
        Statistics=["Sum"],
    )
    assert [point["Sum"] for point in asked["Datapoints"]] == [pytest.approx(0.0104 + 0.0052)]


def test_what_was_recorded_before_the_sink_began_is_not_sent(metered, settings, sums):
    metered.call(1_000_000_000)
    sink = metered.sink(settings())
    metered.call(5_000_000_000, minutes=2)
    sink.send()
    assert sums() == {2: 5}


def test_nothing_is_sent_twice_and_nothing_asked_where_nothing_is_new(metered, settings, sums):
    sink = metered.sink(settings())
    metered.call(1_000_000_000)
    for _ in range(3):
        sink.send()
    assert sums() == {0: 1}
    assert (metered.state.requests, metered.state.request_cost, metered.state.sent) == (1, 10_000, 3)


def test_a_late_call_is_added_to_its_own_minute(metered, settings, sums):
    sink = metered.sink(settings())
    metered.call(1_000_000_000)
    sink.send()
    metered.call(2_000_000_000, minutes=0.5)
    sink.send()
    assert sums() == {0: 1 + 2}


def test_a_correction_takes_back_at_the_minute_of_what_it_corrects(metered, settings, sums):
    sink = metered.sink(settings())
    metered.call(3_000_000_000)
    sink.send()
    metered.call(-1_000_000_000, requests=0)
    sink.send()
    assert sums() == {0: 3 - 1}
    assert sums(**UPSCALED, Success="true") == {0: 3 - 1}


def test_what_is_too_old_or_too_far_ahead_is_counted_and_not_sent(metered, settings, sums):
    sink = metered.sink(settings())
    metered.call(1_000_000_000, minutes=-TWO_WEEKS)
    metered.call(1_000_000_000, minutes=121)
    metered.call(7_000_000_000, minutes=119)
    sink.send()
    assert sums() == {119: 7}
    # Each of the two under its three combinations of dimensions.
    assert (metered.state.sent, metered.state.failed) == (3, 2 * 3)


def test_more_than_a_thousand_data_go_in_several_requests(metered, settings, sums):
    sink = metered.sink(settings())
    for minute in range(401):
        metered.call(1_000_000_000, minutes=minute - 330)
    sink.send()
    assert len(list(requests_of(range(3 * 401)))) == 2
    assert (metered.state.requests, metered.state.sent) == (2, 3 * 401)


def test_a_pass_that_breaks_off_goes_on_with_the_request_that_failed(metered, settings, moto, cloudwatch, sums):
    with forwarding(moto) as server:
        sink = metered.sink(settings(server.url))
        for minute in range(401):
            metered.call(1_000_000_000, minutes=minute - 400)
        real, taken = server.answer, []

        def first_alone(request):
            taken.append(request)
            return real(request) if len(taken) == 1 else Answer(b"{}", 500)

        server.answer = first_alone
        with pytest.raises(SourceError, match="PutMetricData"):
            sink.send()
        assert (metered.state.sent, len(taken) > 2) == (1000, True)
        # More is recorded before it goes on, by a process that was started anew: the second request is what it was.
        metered.call(9_000_000_000, minutes=0)
        server.answer = real
        again = CloudwatchSink(metered.ledger, settings(server.url), lambda: metered.now + 60_000_000)
        again.send()
        assert metered.state.sent == 3 * 401
        again.send()
    found = sums()
    assert found == {minute - 400: 1 for minute in range(400)} | {0: 1 + 9}
    assert sums(Provider="replicate") == found


def test_a_crash_before_a_request_is_noted_repeats_that_request_alone(metered, settings, sums):
    class Crashed(Exception):
        pass

    sink = metered.sink(settings())
    for minute in range(401):
        metered.call(1_000_000_000, minutes=minute - 400)
    move = sink._move

    def crash(before, after, **counts):
        if counts.get("sent"):
            raise Crashed
        return move(before, after, **counts)

    sink._move = crash
    with pytest.raises(Crashed):
        sink.send()
    CloudwatchSink(metered.ledger, settings(), lambda: metered.now + 60_000_000).send()
    # The first request had 1,000 of 1,203 data: 333 minutes with three each, and one of the minute after them.
    assert sums(**UPSCALED, Success="true") == {minute: 2 if minute < -400 + 333 else 1 for minute in range(-400, 1)}
    assert metered.state.sent == 3 * 401


def test_an_answer_that_is_lost_is_repeated_and_may_count_twice(metered, settings, moto, cloudwatch, sums):
    """At least once: CloudWatch cannot be asked whether it has taken a request."""
    with forwarding(moto) as server:
        sink = metered.sink(settings(server.url))
        metered.call(1_000_000_000)
        real, seen = server.answer, []

        def taken_but_not_told(request):
            answer = real(request)
            seen.append(request)
            return Answer(b"{}", 503) if len(seen) == 1 else answer

        server.answer = taken_but_not_told
        sink.send()
    assert sums() == {0: 1 + 1}
    assert (metered.state.requests, metered.state.request_cost) == (2, 2 * 10_000)


def test_the_days_dollars_hold_it_back_until_tomorrow(metered, settings, sums):
    sink = metered.sink(settings(daily_request_limit_usd="0.00002"))
    for number in range(2):
        metered.call(1_000_000_000, minutes=number)
        sink.send()
    metered.call(1_000_000_000, minutes=2)
    with pytest.raises(RequestLimitReached, match=r"have cost \$0.00002 of at most \$0.00002"):
        sink.send()
    assert sums() == {0: 1, 1: 1}
    metered.now += 24 * 3600 * 1_000_000
    sink.send()
    assert sums() == {0: 1, 1: 1, 2: 1}


def test_a_request_that_cloudwatch_refuses_is_counted_and_the_next_ones_go_out(metered, settings, moto, cloudwatch, sums):
    refusal = {"__type": "InvalidParameterValueException", "message": "The value 1 is not valid"}
    with forwarding(moto) as server:
        sink = metered.sink(settings(server.url))
        metered.call(1_000_000_000)
        server.fail(400, refusal, x_amzn_query_error="InvalidParameterValue;Sender")
        sink.send()
        assert (metered.state.sent, metered.state.failed) == (0, 3)
        metered.call(2_000_000_000, minutes=1)
        sink.send()
    assert sums() == {1: 2}


def test_while_cloudwatch_refuses_the_page_says_so_until_nothing_is_refused(metered, settings, sums, wait_until):
    page = Page([cloudwatch_collector(metered.ledger.read)], MetricsSettings(), lambda: metered.now)

    def up():
        page.render()
        return "costwarden_cloudwatch_up 1.0" in page.answer().body.decode().splitlines()

    def refuse(*_):
        raise Refused("InvalidParameterValue: no")

    def cut_off(*_):
        raise SourceError("no connection")

    sink = metered.sink(settings())
    put = sink._put
    for number, what in enumerate((refuse, cut_off, refuse)):
        sink._put = what
        metered.call(1_000_000_000, minutes=number)
        # As the thread does it.
        assert sink._try() is (what is refuse)
        # The third pass sends what the second one could not: its three data, and they are refused too.
        message = "no connection" if what is cut_off else "CloudWatch has refused 3 data, which are lost: InvalidParameterValue: no"
        assert (metered.state.message, up()) == (message, False)
    # What was recorded since is taken, and the next pass has nothing to send: both are well.
    sink._put = put
    sink._try()
    assert (metered.state.message, up(), sums()) == ("", True, {2: 1})
    metered.call(1_000_000_000, minutes=3)
    sink._put = refuse
    sink._try()
    assert not up()
    sink._try()
    assert (metered.state.message, up()) == ("", True)


def test_a_pass_of_which_a_part_is_refused_is_not_well(metered, settings, sums):
    sink = metered.sink(settings())
    for minute in range(401):
        metered.call(1_000_000_000, minutes=minute - 400)
    put, seen = sink._put, []

    def refuse_the_first(asked, data):
        seen.append(data)
        if len(seen) == 1:
            raise Refused("InvalidParameterValue: no")
        put(asked, data)

    sink._put = refuse_the_first
    sink.send()
    assert (metered.state.failed, metered.state.sent) == (1000, 3 * 401 - 1000)
    assert metered.state.message == "CloudWatch has refused 1000 data, which are lost: InvalidParameterValue: no"


def test_a_sink_that_is_stopped_is_not_well_for_it(metered, settings):
    sink = metered.sink(settings())
    metered.call(1_000_000_000)
    metered.ledger.write(lambda connection: note_sink(connection, "cloudwatch", "no connection"))
    sink.stop()
    sink.send()
    assert metered.state.message == "no connection"


def test_without_credentials_it_says_so(metered, settings, monkeypatch):
    sink = metered.sink(settings())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    metered.call(1_000_000_000)
    with pytest.raises(SourceError, match="no AWS credentials were found"):
        sink.send()


def test_two_processes_that_both_send_do_not_both_go_on(metered, settings, sums):
    first, second = metered.sink(settings()), metered.sink(settings())
    metered.call(1_000_000_000)
    put = first._put

    def overtaken(*arguments):
        second.send()
        put(*arguments)

    first._put = overtaken
    with pytest.raises(Overtaken):
        first.send()
    first._put = put
    metered.call(4_000_000_000, minutes=1)
    first.send()
    assert sums()[1] == 4


def test_names_that_cloudwatch_does_not_take_are_made_fit_and_still_add_up(metered, settings, sums):
    sink = metered.sink(settings())
    metered.call(1_000_000_000, provider="größe", operation="")
    metered.call(2_000_000_000, provider="gr??e", operation="  ")
    metered.call(4_000_000_000, provider="", operation="x" * 2000)
    sink.send()
    assert sums(Provider="gr??e") == {0: 1 + 2}
    assert sums(Provider="gr??e", Operation="none", Success="true") == {0: 1 + 2}
    assert sums(Provider="none", Operation="x" * 200, Success="true") == {0: 4}
    assert sums() == {0: 1 + 2 + 4}


def test_operations_beyond_the_limit_are_one(metered, settings, sums):
    metered.call(1, operation="common")
    metered.call(1, operation="common")
    sink = metered.sink(settings(operations_limit=1))
    metered.call(1_000_000_000, operation="common")
    metered.call(2_000_000_000, operation="rare")
    metered.call(4_000_000_000, operation="rarest")
    sink.send()
    assert sums(Provider="replicate", Operation="common", Success="true") == {0: 1}
    assert sums(Provider="replicate", Operation="other", Success="true") == {0: 2 + 4}


def test_a_ledger_on_postgresql_sends_each_call_once(metered, settings, sums, postgresql_url):
    metered.ledger.close()
    metered.ledger = Ledger(postgresql_url())
    metered.call(8_000_000_000)
    sink = metered.sink(settings())
    for number in range(3):
        metered.call(1_000_000_000, minutes=number)
        metered.call(500_000_000, minutes=0)
        sink.send()
    assert sums() == {0: 1 + 3 * 0.5, 1: 1, 2: 1}


def test_the_thread_sends_until_it_is_stopped(metered, settings, sums, wait_until):
    sink = metered.sink(settings(interval_seconds=10))
    metered.call(1_000_000_000)
    sink.start()
    wait_until(lambda: metered.state.sent == 3)
    metered.call(2_000_000_000, minutes=1)
    sink.configure(settings(interval_seconds=20))
    wait_until(lambda: metered.state.sent == 6)
    sink.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "cloudwatch"]
    assert sums() == {0: 1, 1: 2}


def test_failures_are_said_on_the_page_and_end_with_a_success(metered, settings, moto, cloudwatch, wait_until):
    page = Page([cloudwatch_collector(metered.ledger.read)], MetricsSettings(), lambda: metered.now)

    def shown():
        page.render()
        lines = page.answer().body.decode().splitlines()
        return {
            name: float(value) for name, _, value in (line.partition(" ") for line in lines if line.startswith("costwarden_cloudwatch"))
        }

    assert shown() == {}
    metered.sink(settings())
    assert shown() == {
        "costwarden_cloudwatch_up": 1,
        "costwarden_cloudwatch_sent_total": 0,
        "costwarden_cloudwatch_failed_total": 0,
        "costwarden_cloudwatch_requests_total": 0,
        "costwarden_cloudwatch_request_cost_usd_total": 0,
    }
    with forwarding(moto) as server:
        denied = {"__type": "AccessDeniedException", "message": "not authorized to perform: cloudwatch:PutMetricData"}
        server.fail(403, denied)
        sink = metered.sink(settings(server.url, interval_seconds=10))
        metered.call(1_000_000_000)
        sink.start()
        wait_until(lambda: "not authorized" in metered.state.message)
        assert shown()["costwarden_cloudwatch_up"] == 0
        sink.configure(settings(server.url, interval_seconds=11))
        # What was wrong is forgotten last, and not by a sink that is being stopped.
        wait_until(lambda: (metered.state.sent, metered.state.message) == (3, ""))
        sink.stop()
    after = shown()
    assert after["costwarden_cloudwatch_up"] == 1
    assert after["costwarden_cloudwatch_request_cost_usd_total"] == pytest.approx(2 * 0.00001)
    assert after["costwarden_cloudwatch_last_success_timestamp_seconds"] == metered.now / 1e6


def test_a_sink_that_is_off_sends_nothing_and_catches_up(metered, settings, sums):
    sink = metered.sink(settings())
    sink.configure(None)
    metered.call(1_000_000_000)
    sink.send()
    assert sums() == {}
    sink.configure(settings())
    sink.send()
    assert sums() == {0: 1}
