local lib = import 'lib.libsonnet';
local q = import 'queries.libsonnet';

// `.*` of the variable also matches budgets that name no provider.
local chosen = q.chosen('provider');
local month = q.own('current', chosen);
local budget = 'sum(%s)' % q.budgets(chosen);
// At a moment, where `at` has one: the modifier `@`.
local ofServices(metric, at='') = q.totals('provider, service', '%s{%s}%s' % [metric, chosen, at]);
local beyond(at) =
  '(%s - %s - scalar(max(cost_anomaly_limit_deviations)) * %s)'
  % [ofServices('cloud_service_cost_%s_usd' % name, at) for name in ['daily', 'expected', 'deviation']];
local growth = 'max by (provider) (provider:cloud_cost_forecast_growth:ratio{%s})' % chosen;
local excess = 'topk(20, %s - %s)' % [ofServices('cloud_service_cost_daily_usd'), ofServices('cloud_service_cost_expected_usd')];
local byService(metric) = lib.rows(q.among(excess, ofServices(metric)));
local ofProviders(metric) = lib.rows('max by (provider, account, budget, period, job) (%s{%s})' % [metric, chosen]);
local ofBudgets(metric) = 'max by (budget, provider, environment, team, service, job) (%s{%s})' % [metric, chosen];
local fullest = 'topk(100, %s)' % ofBudgets('budget:cloud_budget_spent:ratio');
local byBudget(metric) = lib.rows(q.among(fullest, ofBudgets(metric)));

lib.dashboard(
  uid='finops-cloud-cost',
  title='FinOps: cloud cost',
  description='What the clouds cost, against their budgets. Figures are US dollars from the bills, as new as these are.',
  variables=[lib.variable('provider', 'Cloud', 'provider:cloud_cost_monthly_usd:sum')],
  about='provider',
  rows=[
    lib.row('This month', [
      lib.number(
        'Month to date',
        'Cost of this calendar month (UTC), all chosen clouds together; what a cluster shows of a cloud\'s bill counts once.',
        lib.now(month),
        'currencyUSD',
      ) + lib.needs('bills'),
      lib.number(
        'Budget',
        'Sum of the monthly budgets of the chosen clouds as wholes, of those that have one. That of a cluster counts by what no cloud bills.',
        lib.now(budget),
        'currencyUSD',
      ) + lib.needs('a cloud budget'),
      lib.gauge(
        'Budget used',
        'Month to date as a share of the budget, of the clouds that have one.',
        lib.now(
          |||
            sum(%(spent)s and on (provider) provider:cloud_budget_monthly_limit_usd:sum)
            / (%(budget)s > 0)
          ||| % { spent: q.services('provider', chosen), budget: budget }
        ),
        'percentunit',
      ) + lib.needs('a cloud budget') + lib.budgetSteps + lib.max(1.2),
      lib.number(
        'Forecast',
        'What this month will have cost by its end, if its weekdays go on as in the four weeks before. Empty before a week of bills is known.',
        lib.now('sum(%s)' % q.forecast(chosen)),
        'currencyUSD',
      ) + lib.needs('a week of bills'),
      lib.numbers(
        'Month over month',
        |||
          This month against the whole month before: as it is forecast to end, which compares like with like, and so far: -40 % on the 18th of a
          month of 30 days is a steady cost.
        |||,
        [
          lib.now('sum(%s) / (%s > 0) - 1' % [q.forecast(chosen), q.own('previous', chosen)], 'by forecast'),
          lib.now('%s / (%s > 0) - 1' % [month, q.own('previous', chosen)], 'so far'),
        ],
        'percentunit',
        4,
      ) + lib.needs('bills') + lib.stepsOf('by forecast', [[0.2, 'orange']]),
      lib.number(
        'Cost per customer',
        'Month to date of the chosen clouds divided by all tenants that have used AI or sent a request.',
        lib.now('%s / global:tenants:count' % month),
        'currencyUSD',
      ) + lib.needs('bills'),
      lib.lines(
        'Month to date against the budget',
        'Cost of the month as it grows, by cloud, and the budgets of clouds as wholes, dashed.',
        [
          lib.over('provider:cloud_cost_monthly_usd:sum{month="current", %s}' % chosen, '{{provider}}'),
          lib.over('provider:cloud_budget_monthly_limit_usd:sum{%s}' % chosen, '{{provider}} budget'),
        ],
        'currencyUSD',
      ) + lib.needs('bills') + lib.bare + lib.limits('/ budget$/'),
      lib.lines(
        'Forecast of the month',
        |||
          The month to date, what it will have cost by its end, and the bounds between which 80 % of months end, if clouds stray
          independently of each other. The budget is that of those clouds that have one; the rest is cost of all chosen ones.
        |||,
        [
          lib.over(month, 'month to date'),
          lib.over('sum(%s)' % q.forecast(chosen), 'forecast'),
          lib.over(q.bound('-', 'lower', chosen), 'lower bound'),
          lib.over(q.bound('+', 'upper', chosen), 'upper bound'),
          lib.over(budget, 'budget'),
        ],
        'currencyUSD',
      ) + lib.needs('bills') + lib.band('lower bound', 'upper bound') + lib.limit('budget'),
      lib.grid(
        'Growth by cloud',
        'This month as it is forecast to end against the whole month before, by cloud: comparable from its first days on.',
        [
          lib.rows(growth),
          lib.rows(q.totals('provider', 'cloud_cost_forecast_usd{%s}' % chosen)),
          lib.rows('sum by (provider) (provider:cloud_cost_monthly_usd:sum{month="previous", %s})' % chosen),
          lib.rows('sum by (provider) (provider:cloud_cost_monthly_usd:sum{month="current", %s})' % chosen),
        ],
        'currencyUSD',
        ['provider'],
        ['Growth', 'Forecast', 'Month before', 'Month to date'],
        12,
        7,
      ) + lib.needs('bills') + lib.unitOf('Growth', 'percentunit') + lib.coloured('Growth', [[0.2, 'orange']])
      + lib.leadsBy('provider', 'Only ${__value.text}', 'finops-cloud-cost'),
      lib.lines(
        'Growth so far',
        'This month to date against the whole month before, by cloud: it begins at -100 %.',
        [lib.over('provider:cloud_cost_monthly_growth:ratio{%s}' % chosen, '{{provider}}')],
        'percentunit',
        12,
        7,
      ) + lib.needs('bills') + lib.bare,
    ]),
    lib.row('Budgets', [
      lib.grid(
        'Budget status',
        'Cloud budgets this month, the 100 fullest: alerts fire above 80 % and above 100 %. The forecast is by weekdays.',
        [
          lib.rows(fullest),
          byBudget('cloud_budget_limit_usd'),
          byBudget('cloud_budget_spent_usd'),
          byBudget('cloud_budget_forecast_usd'),
          lib.rows(
            q.among(fullest, '%s / (%s > 0)' % [ofBudgets('cloud_budget_forecast_usd'), ofBudgets('cloud_budget_limit_usd')])
          ),
        ],
        'currencyUSD',
        ['budget', 'provider', 'environment', 'team', 'service'],
        ['Used', 'Limit', 'Spent', 'Forecast', 'Forecast used'],
      ) + lib.needs('a cloud budget')
      + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used')
      + lib.unitOf('Forecast used', 'percentunit') + lib.coloured('Forecast used'),
      lib.lines(
        'Burn of a day',
        |||
          How fast the 10 cloud budgets are spent that are the fastest at the end of the time range: 1 is all of the limit by the end of the month,
          2 is twice as fast. Bills come in lumps: CloudBudgetBurns looks at 3, the dashed line, over a day and over 3 days.
        |||,
        [
          lib.over(
            q.leading(10, 'budget', function(at) 'max by (budget) (budget:cloud_budget_burn:rate1d{%s}%s)' % [chosen, at]),
            '{{budget}}',
          ),
          lib.over('3 + 0 * count(budget:cloud_budget_burn:rate1d{%s})' % chosen, 'CloudBudgetBurns'),
        ],
        'none',
        8,
        7,
      ) + lib.bare + lib.limit('CloudBudgetBurns') + lib.needs('as much history as the window is long'),
      lib.grid(
        'Budgets kept at providers',
        'Budgets of AWS Budgets, Cloud Billing and Cost Management, and what the providers forecast of them.',
        [
          ofProviders('cloud_provider_budget_limit_usd'),
          ofProviders('cloud_provider_budget_spent_usd'),
          ofProviders('cloud_provider_budget_forecast_usd'),
        ],
        'currencyUSD',
        ['provider', 'account', 'budget', 'period'],
        ['Limit', 'Spent', 'Forecast'],
        8,
        7,
      ) + lib.needs('a source of a cloud that keeps budgets'),
      lib.grid(
        'Forecasts of providers',
        'Cost of this month by its end as the providers themselves forecast it, with the bounds that they give; of all clouds.',
        [
          lib.rows('max by (source, account, job) (%s)' % std.join(' or ', ['%s_cost_forecast%s_usd' % [cloud, bound] for cloud in q.clouds]))
          for bound in ['', '_lower', '_upper']
        ],
        'currencyUSD',
        ['source', 'account'],
        ['Forecast', 'Lower bound', 'Upper bound'],
        8,
        7,
      ) + lib.needs('a source of a cloud that forecasts'),
    ]),
    lib.row('Where it goes', [
      lib.bars(
        'Cost by region, this month',
        'This month, the 10 largest. What a cluster shows of a cloud\'s bill counts once, in that bill.',
        lib.now(
          'sort_desc(topk(10, %s))' % q.named(q.services('region', chosen), 'region'),
          '{{name}}',
        ),
        'currencyUSD',
        7,
        12,
      ) + lib.needs('bills'),
      lib.bars(
        'Cost by service, this month',
        'This month, the 10 largest. Workloads of a cluster stand beside the machines of the cloud that they run on.',
        lib.now(
          'sort_desc(topk(10, sum by (provider, service) (service:cloud_cost_monthly_usd:sum{month="current", %s})))' % chosen,
          '{{provider}} {{service}}',
        ),
        'currencyUSD',
        8,
        12,
      ) + lib.needs('bills'),
      lib.grid(
        'Top 10 cost drivers, this month',
        'The services in a region that cost most this month. Workloads of a cluster stand beside the machines that they run on.',
        [lib.rows('topk(10, sum by (provider, region, service) (service:cloud_cost_monthly_usd:sum{month="current", %s}))' % chosen)],
        'currencyUSD',
        ['provider', 'region', 'service'],
        ['Month to date'],
        9,
        12,
      ) + lib.needs('bills') + lib.leadsBy('provider', 'Only ${__value.text}', 'finops-cloud-cost'),
      lib.bars(
        'Attributed cost, this month',
        'Share of the usage and purchases in this month\'s bills that has a team, feature, tenant or environment; of all clouds.',
        lib.now('sort(min by (target) (cloud_cost_attributed_ratio))', '{{target}}'),
        'percentunit',
        6,
        7,
      ) + lib.needs('bills') + lib.max(1) + lib.ownedSteps,
      lib.bars(
        'Unattributed cost, this month',
        'Usage and purchases in this month\'s bills without a team, feature, tenant or environment; of all clouds.',
        lib.now('sort_desc(%s)' % q.totals('target', 'cloud_cost_unattributed_usd'), '{{target}}'),
        'currencyUSD',
        6,
        7,
      ),
      lib.bars(
        'Explained by clusters',
        'What clusters explain of the bill of their cloud, on the newest 7 complete days that all of them have.',
        lib.now('sort_desc(max by (provider, source) (kubernetes_cost_explained_usd{%s}))' % chosen, '{{source}} of {{provider}}'),
        'currencyUSD',
        6,
        7,
      ) + lib.needs('a source of a cluster'),
      lib.bars(
        'Buckets',
        'The 10 largest S3 buckets of all accounts, all storage classes together, and the size above which S3BucketLarge fires. At most two days old.',
        lib.now('sort_desc(topk(10, bucket:aws_s3_bucket_size_bytes:sum))', '{{bucket}}'),
        'decbytes',
        6,
        7,
      ) + lib.steps([[1e12, 'orange']]) + lib.needs('a source that reads buckets'),
    ]),
    lib.row('Days and months', [
      lib.lines(
        'Cost of a day',
        'The newest complete day in the data, by cloud, at the time it was known, and what is usual on its weekday, dashed.',
        [
          lib.over('provider:cloud_cost_daily_usd:sum{%s}' % chosen, '{{provider}}'),
          lib.over(q.totals('provider', 'cloud_cost_weekday_usd{%s}' % chosen), '{{provider}}, usual'),
        ],
        'currencyUSD',
        8,
      ) + lib.needs('bills') + lib.bare + lib.limits('/, usual$/'),
      lib.lines(
        'Day over day',
        'Growth of the newest complete day over the day before, and the limit above which CloudCostSpike may fire.',
        [
          lib.over('provider:cloud_cost_daily_growth:ratio{%s}' % chosen, '{{provider}}'),
          lib.over('max(cloud_cost_spike_limit_ratio)', 'limit'),
        ],
        'percentunit',
        8,
      ) + lib.needs('bills') + lib.limit('limit') + lib.bare,
      lib.columns(
        'Months',
        'Cost of each calendar month that the ledger knows; the earliest are summed.',
        lib.rows(q.months(chosen)),
        'currencyUSD',
        'month',
        8,
      ) + lib.needs('bills'),
      lib.grid(
        'Expected and observed',
        |||
          Services on the newest complete day against the median of the same weekday in the eight weeks before, the 20 of the largest excess.
          CloudCostAnomaly fires where the excess is several deviations.
        |||,
        [
          lib.rows(excess),
          byService('cloud_service_cost_daily_usd'),
          byService('cloud_service_cost_expected_usd'),
          byService('cloud_service_cost_deviation_usd'),
        ],
        'currencyUSD',
        ['provider', 'service'],
        ['Excess', 'Observed', 'Expected', 'Deviation'],
        12,
      ) + lib.needs('some weeks of bills'),
      lib.lines(
        'Services beyond what is expected',
        |||
          How many dollars services cost on the newest complete day above the limit of CloudCostAnomaly, the 5 that lead at the end of the time
          range; below 0 is as usual.
        |||,
        [lib.over(q.leading(5, 'provider, service', beyond), '{{provider}} {{service}}')],
        'currencyUSD',
      ) + lib.bare + lib.needs('some weeks of bills'),
    ]),
    lib.row('Whether to believe it', [
      lib.firing('Budget.*|Cloud.*|Cost.*|ProviderBudget.*|S3BucketLarge|OverprovisionedPod|RulesOutOfDate|ConfigReloadFailed|MetricsPageStale', 'provider'),
      lib.bars(
        'Age of the newest day',
        'Time since the newest complete day in the data began. Bills come one to two days late.',
        lib.now('sort_desc(time() - provider:cloud_cost_daily_timestamp_seconds:max{%s})' % chosen, '{{provider}}'),
        's',
        height=6,
      ) + lib.needs('bills') + lib.steps([[3 * 86400, 'orange'], [5 * 86400, 'red']]),
      lib.bars(
        'Age of sources',
        'Time since each source was last read successfully; of all clouds.',
        lib.now('sort_desc(time() - max by (source) (costwarden_source_last_success_timestamp_seconds))', '{{source}}'),
        's',
        height=6,
      ) + lib.needs('a source') + lib.leads('Sources', 'finops-pipeline'),
      lib.bars(
        'Rejected rows',
        'Rows of the bills of all clouds that could not be read and are in no figure. `costwarden rejected` lists them.',
        lib.now(q.orNone('sort_desc(%s)' % q.sum('costwarden_source_rejected_rows', 'source, reason'), 'source'), '{{source}} {{reason}}'),
        'short',
        height=6,
      ) + lib.steps([[1, 'orange']]) + lib.leads('Sources', 'finops-pipeline'),
    ]),
  ],
)
