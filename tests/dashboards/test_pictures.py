"""Pictures of the dashboards: numbers as Grafana writes them, labels that stay text, and a browser that sees what is blank or overlaps."""

import math
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from base64 import b64encode
from pathlib import Path

import pytest
from picture_faults import PICTURES, faults
from stand_in import Answer, StandIn

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PICTURES))

import picture_browser  # noqa: E402 (the path comes first)
import picture_png  # noqa: E402
from picture import dashboards, moment, write_page  # noqa: E402
from picture_browser import BrowserFailed, photograph  # noqa: E402
from picture_data import Field, Frame, Prometheus, QueryFailed, substituted, variables_of  # noqa: E402
from picture_fields import look, transformed  # noqa: E402
from picture_page import WIDTH, height_of, page  # noqa: E402
from picture_png import shrink  # noqa: E402
from picture_units import formatted  # noqa: E402

HOSTILE = "\"><script>alert('x')</script>${datasource} & 漢字"
NOW = 1_800_000_000.0

# --- units ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "currencyUSD", "$0"),
        (12.0, "currencyUSD", "$12"),
        (12.345, "currencyUSD", "$12.3"),
        (-75.0, "currencyUSD", "-$75"),
        (12_345.0, "currencyUSD", "$12.3K"),
        (999.99, "currencyUSD", "$1000"),
        (2_500_000.0, "currencyUSD", "$2.50M"),
        (0.0246, "currencyUSD", "$0.0246"),
        (0.825, "percentunit", "82.5%"),
        (-0.0000, "percentunit", "0%"),
        (82.5, "percent", "82.5%"),
        (0.25, "s", "250 ms"),
        (59.0, "s", "59 s"),
        (90.0, "s", "1.50 min"),
        (3_600.0, "s", "1 hour"),
        (172_800.0, "s", "2 days"),
        (1_536.0, "bytes", "1.50 KiB"),
        (2_500_000_000_000.0, "decbytes", "2.50 TB"),
        (1_500.0, "short", "1.50 K"),
        (0.5, "reqps", "0.500 req/s"),
        (1_234_567.0, "none", "1234567"),
        ((NOW + 9 * 86_400) * 1_000, "dateTimeFromNow", "in 9 days"),
        ((NOW - 3_700) * 1_000, "dateTimeFromNow", "an hour ago"),
        (NOW * 1_000, "dateTimeAsIso", "2027-01-15 08:00:00"),
        (1.0, "bool_yes_no", "Yes"),
        (math.nan, "currencyUSD", "NaN"),
        (math.inf, "currencyUSD", "∞"),
    ],
)
def test_a_number_is_written_as_grafana_writes_it(value: float, unit: str, text: str) -> None:
    assert formatted(value, unit, None, NOW) == text


def test_the_number_of_decimals_can_be_given() -> None:
    assert formatted(12.3, "currencyUSD", 2) == "$12.30"


def test_every_unit_of_the_dashboards_can_be_drawn() -> None:
    used = {
        panel["fieldConfig"]["defaults"]["unit"]
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        if "id" in panel and "fieldConfig" in panel
    }
    assert [formatted(1.0, unit) for unit in used]


def test_a_unit_that_nobody_draws_is_said_by_name() -> None:
    with pytest.raises(ValueError, match="no picture of the unit 'furlongs'"):
        formatted(1, "furlongs")


# --- fields and transformations ------------------------------------------------------------------------------------------------


def frame(**columns: list) -> Frame:
    return Frame([Field(name, values, "string" if isinstance(values[0], str) else "number") for name, values in columns.items()])


def columns(found: Frame) -> dict[str, list]:
    return {field.name: field.values for field in found.fields}


def test_lines_that_agree_in_what_their_frames_share_become_one() -> None:
    merged = transformed([frame(budget=["a", "b"], used=[0.5, 0.9]), frame(budget=["b", "c"], limit=[10.0, 20.0])], [{"id": "merge"}])
    assert [columns(found) for found in merged] == [{"budget": ["a", "b", "c"], "used": [0.5, 0.9, None], "limit": [None, 10.0, 20.0]}]


def test_columns_are_left_out_ordered_and_renamed() -> None:
    options = {"excludeByName": {"Time": True}, "indexByName": {"Value": 1, "budget": 0}, "renameByName": {"Value": "Used"}}
    (found,) = transformed([frame(Time=[1.0], Value=[2.0], budget=["a"])], [{"id": "organize", "options": options}])
    assert list(columns(found).items()) == [("budget", ["a"]), ("Used", [2.0])]


def test_lines_are_sorted_and_what_is_missing_comes_last() -> None:
    sort = {"id": "sortBy", "options": {"sort": [{"field": "used", "desc": True}]}}
    (found,) = transformed([frame(budget=["a", "b", "c"], used=[0.5, None, 0.9])], [sort])
    assert columns(found) == {"budget": ["c", "a", "b"], "used": [0.9, 0.5, None]}


def test_a_transformation_that_nobody_draws_is_said_by_name() -> None:
    with pytest.raises(ValueError, match="no picture of the transformation 'joinByField'"):
        transformed([], [{"id": "joinByField"}])


def test_an_override_a_threshold_and_a_mapping_decide_how_a_value_looks() -> None:
    steps = [{"color": "green", "value": None}, {"color": "orange", "value": 0.8}, {"color": "red", "value": 1}]
    word = {"type": "value", "options": {"0": {"text": "nothing", "color": "blue"}}}
    override = {"matcher": {"id": "byName", "options": "Used"}, "properties": [{"id": "unit", "value": "percentunit"}]}
    panel = {"fieldConfig": {"defaults": {"unit": "short", "thresholds": {"steps": steps}, "mappings": [word]}, "overrides": [override]}}
    used, other = (look(panel, Field(name, [], "number"), 0, NOW) for name in ("Used", "Limit"))
    assert (used.text(0.5), other.text(0.5)) == ("50%", "0.500")
    assert [used.colour(value) for value in (0.79, 0.8, 1.0)] == ["#73BF69", "#FF9830", "#F2495C"]
    assert (used.text(0.0), used.colour(0.0)) == ("nothing", "#5794F2")


# --- Prometheus ----------------------------------------------------------------------------------------------------------------


def answer(request) -> Answer:
    """Every query finds two series whose label is hostile; a range three points of it, and a gap."""
    metrics = [{"__name__": "cost", "team": HOSTILE}, {"__name__": "cost", "team": "web"}]
    if "/label/" in request.path:
        return Answer({"status": "success", "data": ["web", "a.b"]})
    if request.path.endswith("query_range"):
        values = [[NOW - 3_000, "1"], [NOW - 2_985, "2"], [NOW - 60, "3"]]
        return Answer(
            {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": each, "values": values} for each in metrics]}}
        )
    result = [{"metric": each, "value": [NOW, str(number + 1)]} for number, each in enumerate(metrics)]
    return Answer({"status": "success", "data": {"resultType": "vector", "result": result}})


def panel(kind: str, number: int, place: tuple[int, int, int, int], **more) -> dict:
    x, y, width, height = place
    over_time = kind == "timeseries"
    target = {
        "expr": "cost",
        "legendFormat": "{{team}}",
        "refId": "A",
        "instant": not over_time,
        "format": "table" if kind in ("table", "barchart") else "",
    }
    return {
        "type": kind,
        "id": number,
        "title": f"{kind} {number}",
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "targets": [target],
        "fieldConfig": {"defaults": {"unit": "currencyUSD"}, "overrides": []},
        "options": {},
    } | more


def dashboard(*panels: dict) -> dict:
    return {"uid": "sample", "title": f"Sample {HOSTILE}", "panels": list(panels), "time": {"from": "now-1h", "to": "now"}}


ALL_KINDS = dashboard(
    {"type": "row", "id": 1, "title": HOSTILE.replace("$", ""), "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
    panel("stat", 2, (0, 1, 8, 4)),
    panel("gauge", 3, (8, 1, 8, 4)),
    panel("bargauge", 4, (16, 1, 8, 4)),
    panel("timeseries", 5, (0, 5, 8, 9), options={"legend": {"displayMode": "table", "calcs": ["lastNotNull"]}}),
    panel("barchart", 6, (8, 5, 8, 9), options={"xField": "team"}),
    panel("table", 7, (16, 5, 8, 9)),
)


@pytest.fixture
def stand_in():
    with StandIn(answer) as server:
        yield server


@pytest.fixture
def prometheus(stand_in):
    client = Prometheus(stand_in.url, NOW - 3_600, NOW)
    yield client
    client.close()


def asked(stand_in) -> dict[str, list[str]]:
    from urllib.parse import parse_qs

    return parse_qs(stand_in.requests[-1].body.decode())


def test_labels_are_text_wherever_they_stand(prometheus) -> None:
    text = page(ALL_KINDS, prometheus)
    assert "<script" not in text
    assert "alert('x')" not in text
    # Title, heading and row; then each kind of panel names the series once, the stat too, where there are several.
    assert text.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;") >= 3 + 5
    assert "漢字" in text


def test_a_page_needs_no_network_and_no_script(prometheus) -> None:
    text = page(ALL_KINDS, prometheus)
    assert not any(needle in text for needle in ("http://", "https://", "src=", "url(", "@import", "<link", "<script"))


def test_a_gap_breaks_a_line_and_a_point_alone_is_a_dot(prometheus) -> None:
    text = page(dashboard(panel("timeseries", 1, (0, 0, 24, 9))), prometheus)
    # Of each of the two series: two points that make a line, and one alone.
    assert (text.count('fill="none"'), text.count("<circle")) == (2, 2)


def test_the_area_between_two_lines_is_filled_and_a_limit_is_dashed(prometheus) -> None:
    band = {"matcher": {"id": "byName", "options": "web"}, "properties": [{"id": "custom.fillBelowTo", "value": HOSTILE}]}
    dashed = {
        "matcher": {"id": "byName", "options": "web"},
        "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [4, 2]}}],
    }
    config = {"defaults": {"unit": "none"}, "overrides": [band, dashed]}
    text = page(dashboard(panel("timeseries", 1, (0, 0, 24, 9), fieldConfig=config)), prometheus)
    assert text.count('opacity="0.15"') == 2  # the two pieces of the line
    assert 'stroke-dasharray="4 2"' in text


def test_intervals_and_variables_are_put_into_a_query(stand_in, prometheus) -> None:
    target = {"expr": 'rate(x{team=~"$team"}[$__rate_interval])', "range": True}
    prometheus.frames(target, {"team": ".*"}, several=False, points=400)
    # An hour in 400 points is 9 s, less than the 15 s of a scrape; a rate looks at four of these.
    assert asked(stand_in)["query"] == ['rate(x{team=~".*"}[60s])']
    assert asked(stand_in)["step"] == ["15.0"]
    prometheus.frames(target, {"team": ".*"}, several=False, points=30)
    # 120 s a point, and a scrape more.
    assert asked(stand_in)["query"] == ['rate(x{team=~".*"}[135s])']


def test_all_is_what_the_dashboard_says_or_every_value_that_there_is(prometheus) -> None:
    def variable(name: str, **more):
        query = {"query": "label_values(cost, team)"}
        return {"name": name, "type": "query", "query": query, "current": {"value": ["$__all"]}, **more}

    templating = {"templating": {"list": [variable("own", allValue=".*"), variable("every"), variable("one", current={"value": "web"})]}}
    assert variables_of(templating, prometheus) == {"own": ".*", "every": r"(a\.b|web)", "one": "web"}


def test_a_variable_that_nobody_has_set_is_said_by_name() -> None:
    with pytest.raises(QueryFailed, match=r"there is no variable \$team"):
        substituted("x$team", {})


def test_a_query_that_fails_is_told_with_its_panel() -> None:
    with StandIn(lambda _: Answer({"status": "error", "error": "parse error"}, 400)) as server:
        client = Prometheus(server.url, NOW - 60, NOW)
        with pytest.raises(QueryFailed, match="cost: parse error") as caught:
            page(dashboard(panel("stat", 1, (0, 0, 4, 4))), client)
        client.close()
    assert caught.value.__notes__ == ["in the panel 'stat 1'"]


def test_a_kind_of_panel_that_nobody_draws_is_said_by_name(prometheus) -> None:
    with pytest.raises(ValueError, match="no picture of panels 'heatmap'"):
        page(dashboard(panel("heatmap", 1, (0, 0, 4, 4))), prometheus)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("now", NOW), ("now-30d", NOW - 2_592_000), ("1800000000", NOW), ("2027-01-15T08:00:00Z", NOW)],
)
def test_a_moment_is_relative_a_number_or_a_date(text: str, seconds: float) -> None:
    assert moment(text, NOW) == seconds


@pytest.mark.parametrize(("text", "reason"), [("yesterday", "is no moment"), ("2027-01-15", "names no time zone")])
def test_what_is_no_moment_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        moment(text, NOW)


def test_the_command_says_in_a_sentence_that_nobody_answers(free_port, tmp_path) -> None:
    command = [
        sys.executable,
        PROJECT / "docs" / "pictures" / "picture.py",
        "--prometheus",
        f"http://127.0.0.1:{free_port()}",
        "--output",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- what a browser sees -------------------------------------------------------------------------------------------------------


def drawn(folder: Path, shown: dict, url: str) -> Path:
    return write_page(shown, folder, url, start=str(NOW - 3_600), end=str(NOW))


def test_a_page_of_every_kind_of_panel_has_no_fault(stand_in, tmp_path) -> None:
    assert faults(drawn(tmp_path, ALL_KINDS, stand_in.url), ALL_KINDS) == []


def test_a_panel_without_data_and_one_without_anything_are_found_to_be_blank(tmp_path) -> None:
    kinds = ("stat", "gauge", "bargauge", "timeseries", "barchart", "table")
    shown = dashboard(*(panel(kind, number, (number * 4, 0, 4, 9)) for number, kind in enumerate(kinds)))
    with StandIn(lambda _: Answer({"status": "success", "data": {"resultType": "vector", "result": []}})) as server:
        path = drawn(tmp_path, shown, server.url)
    titles = [one["title"] for one in shown["panels"]]
    assert faults(path, shown) == [f"{title} is blank" for title in titles]
    assert faults(path, shown, set(titles[1:])) == [f"{titles[0]} is blank"]


def test_a_panel_without_data_says_what_the_dashboard_says_of_that() -> None:
    kinds = ("stat", "gauge", "bargauge", "timeseries", "barchart", "table")
    config = {"defaults": {"unit": "none", "noValue": f"Needs {HOSTILE}"}}
    with StandIn(lambda _: Answer({"status": "success", "data": {"resultType": "vector", "result": []}})) as server:
        client = Prometheus(server.url, NOW - 60, NOW)
        text = page(
            dashboard(*(panel(kind, 1, (0, 0, 4, 9), fieldConfig=config) for kind in kinds), panel("stat", 2, (0, 0, 4, 9))), client
        )
        client.close()
    assert text.count('class="no-data">Needs &quot;') == len(kinds)
    assert text.count('class="no-data">No data<') == 1


def test_a_panel_on_another_is_found(stand_in, tmp_path) -> None:
    shown = dashboard(panel("stat", 1, (0, 0, 8, 4)), panel("stat", 2, (8, 0, 8, 4)), panel("stat", 3, (7, 3, 8, 4)))
    found = faults(drawn(tmp_path, shown, stand_in.url), shown)
    assert found == ["stat 3 overlaps stat 1", "stat 3 overlaps stat 2"]


def test_a_panel_off_the_page_is_found(stand_in, tmp_path) -> None:
    shown = dashboard(panel("stat", 1, (20, 0, 8, 4)))
    assert faults(drawn(tmp_path, shown, stand_in.url), shown) == ["stat 1 is not on the page"]


def test_what_sticks_out_of_its_panel_is_found_and_what_is_cut_off_is_not(stand_in, tmp_path) -> None:
    shown = dashboard(panel("table", 1, (0, 0, 4, 9)))
    path = drawn(tmp_path, shown, stand_in.url)
    assert faults(path, shown) == []
    path.write_text(path.read_text().replace("<table>", '<div style="width:900px">long</div><table>'))
    assert faults(path, shown) == ["table 1 is too small for div. long"]


def test_a_picture_is_as_large_as_its_page(stand_in, tmp_path) -> None:
    picture = tmp_path / "sample.png"
    photograph(drawn(tmp_path, ALL_KINDS, stand_in.url), picture, WIDTH, height_of(ALL_KINDS))
    header = picture.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (WIDTH, height_of(ALL_KINDS))


def test_a_smaller_picture_is_the_same_to_the_eye(stand_in, tmp_path) -> None:
    picture = tmp_path / "sample.png"
    photograph(drawn(tmp_path, ALL_KINDS, stand_in.url), picture, WIDTH, height_of(ALL_KINDS))
    before = picture.read_bytes()
    shrink(picture)
    after = picture.read_bytes()
    assert len(after) < len(before) / 2
    *_, shown = picture_png._read(before)
    palette, lines = (dict(picture_png._chunks(after))[name] for name in (b"PLTE", b"IDAT"))
    rows = zlib.decompress(lines)
    numbers = b"".join(rows[start + 1 : start + 1 + WIDTH] for start in range(0, len(rows), WIDTH + 1))
    found = b"".join(palette[3 * number : 3 * number + 3] for number in numbers)
    assert len(found) == len(shown) == 3 * WIDTH * height_of(ALL_KINDS)
    # Shades at the edges of letters are near, all else is as it was.
    strays = [abs(old - new) for old, new in zip(shown, found, strict=True) if old != new]
    assert max(strays) < 40
    assert len(strays) < len(shown) / 50


def pixels(picture: Path, channels: int) -> bytes:
    """Three bytes for each pixel, as the browser itself shows it on a canvas: red, green and blue."""
    content = picture.read_bytes()
    assert content[25] == {3: 2, 1: 3}[channels]
    page = picture.with_suffix(".html")
    source = b64encode(content).decode()
    page.write_text(f"""<body><img src="data:image/png;base64,{source}"><script>
      const image = document.querySelector('img');
      // Drawn when the page is loaded, which the browser waits for: a decoding of its own would race with what is read of the page.
      addEventListener('load', () => {{
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let text = '';
        for (let at = 0; at < data.length; at += 4)
          text += String.fromCharCode(97 + (data[at] >> 4), 97 + (data[at] & 15), 97 + (data[at + 1] >> 4), 97 + (data[at + 1] & 15),
            97 + (data[at + 2] >> 4), 97 + (data[at + 2] & 15));
        document.body.innerHTML = '<pre id="pixels">' + text + '</pre>';
      }});
    </script></body>""")
    with tempfile.TemporaryDirectory() as scratch:
        shown = picture_browser._run(scratch, "--virtual-time-budget=20000", "--dump-dom", page.as_uri())
    text = re.search(r'<pre id="pixels">(\w+)</pre>', shown)[1]
    return bytes.fromhex(text.translate(str.maketrans("abcdefghijklmnop", "0123456789abcdef")))


@pytest.mark.parametrize(("depth", "kind", "interlaced"), [(16, 2, 0), (8, 6, 0), (8, 2, 1)])
def test_a_picture_of_another_kind_is_refused(tmp_path, depth: int, kind: int, interlaced: int) -> None:
    picture = tmp_path / "other.png"
    header = struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 1, 1, depth, kind, 0, 0, interlaced, 0)
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + header)
    with pytest.raises(ValueError, match=f"{depth} bits, kind {kind}, interlaced {interlaced}"):
        shrink(picture)


def test_what_is_no_png_is_refused(tmp_path) -> None:
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(ValueError, match="is no PNG"):
        shrink(tmp_path / "page.html")


def test_every_way_to_filter_a_line_is_undone(tmp_path) -> None:
    # Two pixels a line, each line by another filter; what they stand for is worked out by hand.
    lines = (
        (0, (10, 20, 30, 40, 50, 60), (10, 20, 30, 40, 50, 60)),
        (1, (1, 2, 3, 4, 5, 255), (1, 2, 3, 5, 7, 2)),  # to the left: 1 + 4, 2 + 5, 3 + 255 - 256
        (2, (1, 1, 1, 1, 1, 1), (2, 3, 4, 6, 8, 3)),  # to what is above
        (3, (1, 1, 1, 1, 1, 1), (2, 2, 3, 5, 6, 4)),  # to the mean: 2 / 2, 3 / 2, 4 / 2; (2 + 6) / 2, (2 + 8) / 2, (3 + 3) / 2
        (4, (1, 1, 1, 1, 1, 1), (3, 3, 4, 6, 7, 5)),  # to the nearest of three to left + above - corner: above it is, each time
    )
    raw = b"".join(bytes([kind, *line]) for kind, line, _ in lines)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 2, len(lines), 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    content = b"".join(struct.pack(">I4s", len(data), name) + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    picture = tmp_path / "filtered.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    wanted = bytes(part for _, _, line in lines for part in line)
    assert pixels(picture, channels=3) == wanted
    shrink(picture)
    assert pixels(picture, channels=1) == wanted


def test_a_machine_without_a_browser_is_told_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(picture_browser, "FETCHED", tmp_path / "bin" / "chromium-headless-shell")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrowserFailed, match=r"no chromium-headless-shell or chromium.* run `rm -r .tools; make tools`"):
        picture_browser.browser()


# --- hostile figures -----------------------------------------------------------------------------------------------------------

EXTREMES = ["NaN", "+Inf", "-Inf", "1.7e308", "-1.7e308", "5e-324", "-0", "-5"]


def of_values(values: list[str]):
    """Answers every query with a series for each value."""

    def reply(request) -> Answer:
        metrics = [{"team": f"t{number}"} for number in range(len(values))]
        if request.path.endswith("query_range"):
            lines = [{"metric": one, "values": [[NOW - 60, value], [NOW - 45, value]]} for one, value in zip(metrics, values, strict=True)]
            return Answer({"status": "success", "data": {"resultType": "matrix", "result": lines}})
        found = [{"metric": one, "value": [NOW, value]} for one, value in zip(metrics, values, strict=True)]
        return Answer({"status": "success", "data": {"resultType": "vector", "result": found}})

    return reply


@pytest.mark.parametrize("values", [*([value] for value in EXTREMES), EXTREMES], ids=" ".join)
def test_what_is_no_number_or_a_huge_one_is_drawn_or_left_out(values: list[str]) -> None:
    kinds = ("stat", "gauge", "bargauge", "timeseries", "barchart", "table")
    units = ("currencyUSD", "percentunit", "s", "bytes", "dateTimeFromNow", "dateTimeAsIso")
    each = [(kind, {"defaults": {"unit": unit}, "overrides": []}) for kind in kinds for unit in units]
    shown = dashboard(*(panel(kind, number, (0, 9 * number, 12, 9), fieldConfig=config) for number, (kind, config) in enumerate(each)))
    with StandIn(of_values(values)) as server:
        client = Prometheus(server.url, NOW - 3_600, NOW)
        text = page(shown, client).partition("</header>")[2]
        client.close()
    assert not re.search(r'="[^"]*\b(?:nan|inf)\b', text)
    assert max(len(word) for word in re.findall(r">([^<]+)<", text)) < 60


def test_ten_thousand_series_are_counted_and_fit(tmp_path) -> None:
    kinds = ("stat", "gauge", "bargauge", "barchart", "table")
    legend = {"legend": {"displayMode": "table", "calcs": ["lastNotNull"]}, "xField": "team"}
    shown = dashboard(*(panel(kind, number, (0, 9 * number, 12, 9), options=legend) for number, kind in enumerate(kinds)))
    with StandIn(of_values([str(number) for number in range(10_000)])) as server:
        path = drawn(tmp_path, shown, server.url)
    assert faults(path, shown) == []
    assert len(re.findall(r"and 9\d\d\d more", path.read_text())) == len(kinds)
    assert path.stat().st_size < 200_000


def test_many_lines_are_drawn_in_time(tmp_path) -> None:
    shown = dashboard(panel("timeseries", 1, (0, 0, 24, 9)))
    with StandIn(of_values([str(number) for number in range(10_000)])) as server:
        began = time.monotonic()
        drawn(tmp_path, shown, server.url)
    # 48 s where each line looked through all others for its partner.
    assert time.monotonic() - began < 20


def test_the_least_interval_of_a_query_is_its_step_and_a_rate_looks_at_four_of_them(stand_in, prometheus) -> None:
    prometheus.frames({"expr": "rate(x[$__rate_interval])", "interval": "1m"}, {}, several=False, points=4_000)
    assert (asked(stand_in)["query"], asked(stand_in)["step"]) == (["rate(x[240s])"], ["60.0"])
