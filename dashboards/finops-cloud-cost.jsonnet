local lib = import 'lib.libsonnet';

// `.*` of the variable also matches budgets that name no provider.
local chosen = 'provider=~"$provider"';
// A cluster's share of a cloud's bill stands in that bill already: a sum over providers leaves it out.
local own(months) =
  '(provider:cloud_cost_monthly_usd:sum{%(of)s} - on (provider, month) sum by (provider, month) (cloud_cost_allocated_monthly_usd)'
  % { of: months + chosen } + ' or provider:cloud_cost_monthly_usd:sum{%s})' % (months + chosen);
local month = 'sum(%s)' % own('month="current", ');

lib.dashboard(
  uid='finops-cloud-cost',
  title='FinOps: cloud cost',
  description='What the clouds cost, against their budgets. Figures are US dollars from the bills, as new as these are.',
  variables=[lib.variable('provider', 'Cloud', 'provider:cloud_cost_monthly_usd:sum')],
  rows=[
    lib.row('This month', [
      lib.number('Month to date', 'Cost of this calendar month (UTC), all chosen clouds together; what a cluster shows of a cloud\'s bill counts once.', lib.now(month), 'currencyUSD', 5),
      lib.number(
        'Budget',
        'Sum of the monthly budgets of the chosen clouds as wholes. Empty where none is configured.',
        lib.now('sum(provider:cloud_budget_monthly_limit_usd:max{%s})' % chosen),
        'currencyUSD',
        5,
      ),
      lib.gauge(
        'Budget used',
        'Month to date as a share of the budget, of the clouds that have one.',
        lib.now(
          |||
            sum(
              provider:cloud_cost_monthly_usd:sum{month="current", %(chosen)s} and on (provider) provider:cloud_budget_monthly_limit_usd:max
            )
            / sum(provider:cloud_budget_monthly_limit_usd:max{%(chosen)s})
          ||| % { chosen: chosen }
        ),
        'percentunit',
        4,
      ) + lib.budgetSteps + lib.max(1.2),
      lib.number(
        'Month over month',
        'This month to date against the whole month before: -40 % on the 18th of a month of 30 days is a steady cost.',
        lib.now('%s / sum(%s) - 1' % [month, own('month="previous", ')]),
        'percentunit',
        5,
      ),
      lib.number(
        'Cost per customer',
        'Month to date divided by the tenants that have made an AI request since the ledger began.',
        lib.now('%s / scalar(global:tenants:count)' % month),
        'currencyUSD',
        5,
      ),
      lib.lines(
        'Month to date against the budget',
        'Cost of the month as it grows, by cloud, and the budgets of clouds as wholes.',
        [
          lib.over('provider:cloud_cost_monthly_usd:sum{month="current", %s}' % chosen, '{{provider}}'),
          lib.over('provider:cloud_budget_monthly_limit_usd:max{%s}' % chosen, '{{provider}} budget'),
        ],
        'currencyUSD',
      ),
      lib.bars(
        'Budgets',
        'Share of each cloud budget that is spent this month, fullest first; alerts fire above 80 % and above 100 %.',
        lib.now('sort_desc(max by (budget) (budget:cloud_budget_spent:ratio{%s}))' % chosen, '{{budget}}'),
        'percentunit',
        12,
      ) + lib.budgetSteps + lib.max(1.2),
    ]),
    lib.row('Where it goes', [
      lib.bars(
        'Cost by region',
        'This month, the 10 largest.',
        lib.now('sort_desc(topk(10, sum by (region) (service:cloud_cost_monthly_usd:sum{month="current", %s})))' % chosen, '{{region}}'),
        'currencyUSD',
      ),
      lib.bars(
        'Cost by service',
        'This month, the 10 largest.',
        lib.now(
          'sort_desc(topk(10, sum by (provider, service) (service:cloud_cost_monthly_usd:sum{month="current", %s})))' % chosen,
          '{{provider}} {{service}}',
        ),
        'currencyUSD',
      ),
      lib.grid(
        'Top 10 cost drivers',
        'The services in a region that cost most this month.',
        [lib.rows('topk(10, sum by (provider, region, service) (service:cloud_cost_monthly_usd:sum{month="current", %s}))' % chosen)],
        'currencyUSD',
        ['provider', 'region', 'service'],
        ['Month to date'],
        width=8,
      ),
    ]),
    lib.row('Days and months', [
      lib.lines(
        'Cost of a day',
        'The newest complete day in the data, by cloud, at the time it was known.',
        [lib.over('provider:cloud_cost_daily_usd:sum{%s}' % chosen, '{{provider}}')],
        'currencyUSD',
        8,
      ),
      lib.lines(
        'Day over day',
        'Growth of the newest complete day over the day before, and the limit above which CloudCostSpike fires.',
        [
          lib.over('provider:cloud_cost_daily_growth:ratio{%s}' % chosen, '{{provider}}'),
          lib.over('max(cloud_cost_spike_limit_ratio)', 'limit'),
        ],
        'percentunit',
        8,
      ),
      lib.columns(
        'Months',
        'Cost of each calendar month that the ledger knows; the earliest are summed.',
        // Named so that they sort by time: ( comes before digits, digits before letters.
        lib.rows(
          |||
            label_replace(label_replace(label_replace(
              sum by (month) (%s),
              "month", "(older)", "month", "older"), "month", "last month", "month", "previous"), "month", "this month", "month", "current")
          ||| % own('')
        ),
        'currencyUSD',
        'month',
        8,
      ),
    ]),
    lib.row('Whether to believe it', [
      lib.firing('Budget.*|Cloud.*|Cost.*|RulesOutOfDate|ConfigReloadFailed|MetricsPageStale|RemediationFailed'),
      lib.bars(
        'Age of the newest day',
        'Time since the newest complete day in the data began. Bills come one to two days late.',
        lib.now('sort_desc(time() - provider:cloud_cost_daily_timestamp_seconds:max{%s})' % chosen, '{{provider}}'),
        's',
        height=6,
      ),
      lib.bars(
        'Age of sources',
        'Time since each source was last read successfully.',
        lib.now('sort_desc(time() - max by (source) (costwarden_source_last_success_timestamp_seconds))', '{{source}}'),
        's',
        height=6,
      ),
      lib.bars(
        'Rejected rows',
        'Rows of the bills that could not be read and are in no figure. `costwarden rejected` lists them.',
        lib.now('sort_desc(sum by (source, reason) (costwarden_source_rejected_rows))', '{{source}}: {{reason}}'),
        'short',
        height=6,
      ),
    ]),
  ],
)
