local lib = import 'lib.libsonnet';
local q = import 'queries.libsonnet';

local perSource(aggregation, metric) = lib.rows('%s by (source, job) (%s)' % [aggregation, metric]);
local rate(labels, metric) = 'sum by (%s) (rate(%s[$__rate_interval]))' % [labels, metric];
local up = lib.words(['down', 'red'], ['up', 'green']);

lib.dashboard(
  uid='finops-pipeline',
  title='FinOps: pipeline',
  description='Whether the figures can be believed: sources, freshness, the ledger, checks, what is sent, and versions.',
  variables=[],
  // Of what runs now, and of the hours before.
  since='now-6h',
  rows=[
    lib.row('costwarden', [
      lib.number(
        'Reachable',
        'Share of the instances of costwarden that Prometheus can scrape: 0 where it knows none.',
        lib.now('avg(up{job="costwarden"}) or vector(0)'),
        'percentunit',
      ) + lib.steps([[0, 'red'], [0.01, 'orange'], [1, 'green']]),
      lib.number('Ledger', 'Whether the last write to the ledger was durable, of all instances.', lib.now('min(costwarden_ledger_up)'), 'none') + up,
      lib.number(
        'Figures current',
        'Share of the parts of the metrics page that are current; the others are the last good ones.',
        lib.now('avg(costwarden_collector_up)'),
        'percentunit',
      ) + lib.steps([[0, 'red'], [1, 'green']]),
      lib.number(
        'Configuration',
        'Whether the last load of the configuration succeeded.',
        lib.now('min(costwarden_config_last_reload_successful)'),
        'none',
      ) + lib.words(['refused', 'red'], ['loaded', 'green']),
      lib.number(
        'Age of the page',
        'Time since the metrics page was rendered, of the oldest instance. MetricsPageStale fires above 300 s.',
        lib.now('clamp_min(max(time() - costwarden_page_rendered_timestamp_seconds), 0)'),
        's',
      ) + lib.steps([[120, 'orange'], [300, 'red']]),
      lib.number(
        'Age of the prices',
        'Time since the published prices were fetched or, where they are built in, verified.',
        lib.now('max(costwarden_price_data_age_seconds)'),
        's',
      ) + lib.steps([[60 * 86400, 'orange']]),
      lib.names('Exporter', 'The versions that run.', lib.now('count by (version) (costwarden_build_info)', '{{version}}')),
      lib.names('Rules', 'The versions of the rules that Prometheus has loaded.', lib.now('count by (version) (costwarden_rules_info)', '{{version}}')),
      lib.number(
        'Other versions than $costwarden_version',
        'Instances and files of rules that are of another version than this dashboard. Upgrade all three together.',
        lib.now(
          |||
            (count(costwarden_build_info{version!="$costwarden_version"}) or %(zero)s)
            + (count(costwarden_rules_info{version!="$costwarden_version"}) or %(zero)s)
          ||| % { zero: q.zero }
        ),
        'none',
        8,
      ) + lib.steps([[1, 'orange']]),
      lib.firing('Costwarden.*|LedgerDown|Metrics.*|Cost(Source|Files|Rows).*|Cloud[Ww]atch.*|RulesOutOfDate|ConfigReloadFailed|Notification.*|AIBudgetServiceFailing|PriceDataOld'),
    ]),
    lib.row('Sources', [
      lib.grid(
        'Sources',
        |||
          Each source of bills: whether its last refresh succeeded, how long ago that and the end of the newest day in its data are (0 where it
          has a part of today), and what its requests cost today.
        |||,
        [
          perSource('min', 'costwarden_source_up'),
          lib.rows('max by (source, job) (time() - costwarden_source_last_success_timestamp_seconds)'),
          perSource('max', 'costwarden_source_stale_after_seconds'),
          // The end of today lies ahead.
          lib.rows('clamp_min(max by (source, job) (time() - costwarden_source_data_newest_timestamp_seconds), 0)'),
          perSource('max', 'costwarden_source_refresh_duration_seconds'),
          perSource('max', 'costwarden_source_rows'),
          lib.rows(q.sum('costwarden_source_rejected_rows', 'source, job')),
          perSource('max', 'costwarden_source_daily_request_cost_usd'),
          perSource('max', 'costwarden_source_daily_request_limit_usd'),
        ],
        's',
        ['source'],
        ['Up', 'Read ago', 'Stale after', 'Data end ago', 'Took', 'Rows', 'Rejected', 'Requests today', 'Request limit'],
      ) + lib.needs('a source') + lib.sorted('Up', desc=false) + lib.unitOf('Up', 'none') + lib.wordsOf('Up', ['failed', 'red'], ['ok', 'green']) + lib.unitOf('Rows', 'short') + lib.unitOf('Rejected', 'short')
      + lib.coloured('Rejected', [[1, 'orange']]) + lib.unitOf('Requests today', 'currencyUSD') + lib.unitOf('Request limit', 'currencyUSD'),
      lib.lines(
        'Refreshes',
        'Refreshes of sources in the hour before each moment, by how they ended.',
        [lib.over(q.sum('increase(costwarden_source_refreshes_total[1h])', 'source, outcome'), '{{source}} {{outcome}}')],
        'short',
        8,
      ) + lib.needs('a source'),
      lib.bars(
        'Parts',
        'Files, objects or answers of sources by state.',
        lib.now('sort_desc(max by (source, state) (costwarden_source_parts))', '{{source}} {{state}}'),
        'short',
      ) + lib.needs('a source'),
      lib.bars(
        'Rejected rows',
        'Rows of bills that could not be read and are in no figure, by reason. `costwarden rejected` lists them.',
        lib.now(q.orNone('sort_desc(max by (source, reason) (costwarden_source_rejected_rows))', 'source'), '{{source}} {{reason}}'),
        'short',
      ) + lib.steps([[1, 'orange']]),
      lib.lines(
        'Requests of sources',
        'Requests that sources have made since the ledger began.',
        [lib.over('max by (source) (costwarden_source_requests_total)', '{{source}}')],
        'short',
        12,
        7,
      ) + lib.needs('a source'),
      lib.lines(
        'Cost of requests',
        'What the requests of sources have cost since the ledger began.',
        [lib.over('max by (source) (costwarden_source_request_cost_usd_total)', '{{source}}')],
        'currencyUSD',
        12,
        7,
      ) + lib.needs('a source'),
    ]),
    lib.row('Budget service', [
      lib.lines(
        'Checks a second',
        'Answers to budget checks.',
        [lib.over(rate('outcome', 'ai_budget_checks_total'), '{{outcome}}')],
        'reqps',
        8,
      ),
      lib.lines(
        'Answers by status',
        'HTTP requests a second by status.',
        [lib.over(rate('code', 'http_requests_total'), '{{code}}')],
        'reqps',
        8,
      ) + lib.needs('requests'),
      lib.lines(
        'Malformed or unauthorised',
        'Requests a second that were refused as malformed or unauthorised.',
        [lib.over(q.orNone(rate('reason', 'costwarden_http_rejected_requests_total'), 'reason'), '{{reason}}')],
        'reqps',
        8,
      ),
      lib.lines(
        'Commits a second',
        'Transactions that the ledger has committed, and those that it did not.',
        [
          lib.over('sum(rate(costwarden_ledger_commits_total[$__rate_interval]))', 'committed'),
          lib.over('sum(rate(costwarden_ledger_write_errors_total[$__rate_interval]))', 'failed'),
        ],
        'ops',
        8,
      ),
      lib.lines(
        'Reservations',
        'Calls that were allowed and have not told what they cost: open ones may still do so, unsettled ones have not in time.',
        [lib.over('max by (state) (costwarden_reservations)', '{{state}}')],
        'none',
        8,
      ),
      lib.lines(
        'Status cache',
        'Requests a second for the status of a tenant by whether the cache answered, and errors of the shared cache.',
        [
          lib.over(rate('outcome', 'costwarden_status_cache_requests_total'), '{{outcome}}'),
          lib.over('sum(rate(costwarden_status_cache_errors_total[$__rate_interval]))', 'errors'),
        ],
        'reqps',
        8,
      ),
      lib.lines(
        'OpenTelemetry',
        'Spans and data points a second that OpenTelemetry sent.',
        [lib.over(rate('signal, outcome', 'costwarden_otlp_received_total'), '{{signal}} {{outcome}}')],
        'ops',
        8,
      ),
      lib.lines(
        'OpenTelemetry, not counted',
        'Spans and data points a second that could not be counted, by reason.',
        [lib.over(q.orNone(rate('signal, reason', 'costwarden_otlp_rejected_total'), 'reason'), '{{signal}} {{reason}}')],
        'ops',
        8,
      ),
      lib.lines(
        'Alerts received',
        'Alerts that Alertmanager delivered to the webhook, a second, by what became of them.',
        [lib.over(rate('outcome', 'costwarden_webhook_alerts_total'), '{{outcome}}')],
        'ops',
        8,
      ),
    ]),
    lib.row('Sent', [
      lib.grid(
        'Notifications',
        'Receivers of the notifier: deliveries of the last 7 days by how they ended, what waits, and when each was last reached.',
        [
          lib.rows(q.grown('costwarden_notifications_total{outcome="delivered"}', 7, 'receiver, job')),
          lib.rows(q.grown('costwarden_notifications_total{outcome="retried"}', 7, 'receiver, job')),
          lib.rows(q.grown('costwarden_notifications_total{outcome="failed"}', 7, 'receiver, job')),
          lib.rows(q.sum('costwarden_notification_queue_length', 'receiver, job')),
          lib.rows('1000 * max by (receiver, job) (costwarden_notification_last_success_timestamp_seconds)'),
        ],
        'short',
        ['receiver'],
        ['Delivered', 'Retried', 'Failed', 'Waiting', 'Last'],
        24,
        6,
      ) + lib.needs('`notifier.receivers` in costwarden.yaml') + lib.sorted('Failed') + lib.coloured('Failed', [[1, 'red']]) + lib.unitOf('Last', 'dateTimeFromNow'),
      lib.number('CloudWatch', 'Whether nothing keeps what was used from CloudWatch.', lib.now('min(costwarden_cloudwatch_up)'), 'none', 4) + lib.needs('`cloudwatch`') + up,
      lib.number(
        'Sent to CloudWatch',
        'Data points that CloudWatch has taken since the ledger began.',
        lib.now('max(costwarden_cloudwatch_sent_total)'),
        'short',
      ) + lib.needs('`cloudwatch`'),
      lib.number(
        'Lost to CloudWatch, 7 days',
        'Data points of the last 7 days that CloudWatch will never have: too old, or refused.',
        lib.now(q.grown('costwarden_cloudwatch_failed_total', 7)),
        'short',
      ) + lib.needs('`cloudwatch`') + lib.steps([[1, 'red']]),
      lib.number(
        'CloudWatch taken',
        'Time since CloudWatch has last taken data. It is long where nothing was used.',
        lib.now('time() - max(costwarden_cloudwatch_last_success_timestamp_seconds)'),
        's',
      ) + lib.needs('`cloudwatch`'),
      lib.number(
        'CloudWatch requests',
        'Requests that sent data to CloudWatch since the ledger began.',
        lib.now('max(costwarden_cloudwatch_requests_total)'),
        'short',
      ) + lib.needs('`cloudwatch`'),
      lib.number(
        'CloudWatch cost',
        'What the requests to CloudWatch have cost since the ledger began.',
        lib.now('max(costwarden_cloudwatch_request_cost_usd_total)'),
        'currencyUSD',
      ) + lib.needs('`cloudwatch`'),
    ]),
    lib.row('Page and process', [
      lib.lines(
        'Rendering',
        'Time that renderings of the metrics page took.',
        [lib.over('max by (instance) (costwarden_page_render_duration_seconds)', '{{instance}}')],
        's',
        8,
      ),
      lib.bars(
        'Series',
        'The 10 metrics with the most series.',
        lib.now('sort_desc(topk(10, max by (metric) (costwarden_series)))', '{{metric}}'),
        'short',
      ),
      lib.number(
        'Series above their limit',
        'Series that were summed into other, or left out, because their metric has more than its limit.',
        lib.now(q.orZero('sum(max by (metric) (costwarden_series_overflow))')),
        'short',
        8,
        9,
      ) + lib.steps([[1, 'orange']]),
      lib.bars(
        'Parts of the page',
        'Parts of the metrics page: 1 where current, 0 where it is the last good one.',
        lib.now('sort(min by (collector) (costwarden_collector_up))', '{{collector}}'),
        'none',
        6,
        8,
      ) + lib.words(['old', 'red'], ['current', 'green']) + lib.max(1),
      lib.lines(
        'Memory',
        'Resident memory of costwarden.',
        [lib.over('max by (instance) (process_resident_memory_bytes{job="costwarden"})', '{{instance}}')],
        'bytes',
        6,
        8,
      ),
      lib.lines(
        'CPU',
        'Share of a core that costwarden uses.',
        [lib.over('sum by (instance) (rate(process_cpu_seconds_total{job="costwarden"}[$__rate_interval]))', '{{instance}}')],
        'percentunit',
        6,
        8,
      ),
      lib.lines(
        'Open files',
        'File descriptors that costwarden has open.',
        [lib.over('max by (instance) (process_open_fds{job="costwarden"})', '{{instance}}')],
        'short',
        6,
        8,
      ),
    ]),
  ],
)
