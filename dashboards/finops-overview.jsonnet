local lib = import 'lib.libsonnet';
local q = import 'queries.libsonnet';

local month = 'global:cloud_cost_monthly_usd:sum{month="current"}';
local budget = 'sum(%s)' % q.budgets('');
local ratios = '(budget:cloud_budget_spent:ratio or budget:ai_budget_spent:ratio)';
local ofCloudBudgets(metric) = 'max by (budget, provider, job) (%s)' % metric;
local fullestClouds = 'topk(20, %s)' % ofCloudBudgets('budget:cloud_budget_spent:ratio');
local byCloudBudget(metric) = lib.rows(q.among(fullestClouds, ofCloudBudgets(metric)));
local ofAiBudgets(metric) = 'max by (budget, period, tenant_id, job) (%s)' % metric;
local fullestAi = 'topk(20, %s)' % ofAiBudgets('budget:ai_budget_spent:ratio');
local byAiBudget(metric) = lib.rows(q.among(fullestAi, ofAiBudgets(metric)));
local ofServices(month) = 'sum by (provider, service) (service:cloud_cost_monthly_usd:sum{month="%s"})' % month;
local dearest = 'topk(10, %s)' % ofServices('current');
local ofTenants(window) = 'sum by (tenant_id) (tenant:ai_token_usage_cost_window_usd:sum{window="%s"})' % window;
local consumers = 'topk(10, %s)' % ofTenants('30d');
// Of a limit of $0 of which nothing is spent the ratio is no number, which is above nothing.
local above(limit) = '%s > bool %s' % [ratios, limit];

lib.dashboard(
  uid='finops-overview',
  title='FinOps: overview',
  description='What clouds and AI cost together, whether that stays inside the budgets, and where to look. Figures are US dollars.',
  variables=[],
  rows=[
    lib.row('This month', [
      lib.number(
        'Cloud, month to date',
        'What all bills say of this calendar month (UTC), AI providers\' own bills included where they are read.',
        lib.now(month),
        'currencyUSD',
      ) + lib.needs('bills') + lib.leads('Cloud cost', 'finops-cloud-cost'),
      lib.number(
        'Cloud, forecast',
        'What the bills of this month will come to by its end, by weekdays. Empty before a week of bills is known.',
        lib.now('sum(%s)' % q.forecast('')),
        'currencyUSD',
      ) + lib.needs('a week of bills') + lib.leads('Cloud cost', 'finops-cloud-cost'),
      lib.gauge(
        'Forecast of the budget',
        'The forecast as a share of the budget, of the clouds that have one.',
        lib.now(
          'sum(%s and on (provider) provider:cloud_budget_monthly_limit_usd:sum) / (%s > 0)' % [q.forecast(''), budget]
        ),
        'percentunit',
      ) + lib.needs('a cloud budget') + lib.budgetSteps + lib.max(1.2),
      lib.number(
        'AI, month to date',
        'Metered AI cost of this calendar month, exact and at once; providers bill it days later.',
        lib.now(q.total('ai_spend_monthly_usd')),
        'currencyUSD',
      ) + lib.leads('AI budgets', 'finops-ai-budget'),
      lib.number(
        'AI, forecast',
        'What AI will have cost by the end of this month, by weekdays. Empty before a week of usage is known.',
        lib.now(q.total('ai_spend_forecast_usd')),
        'currencyUSD',
      ) + lib.needs('a week of usage') + lib.leads('AI budgets', 'finops-ai-budget'),
      lib.gauge(
        'AI of the limit',
        'Metered AI cost of this month as a share of the limit above which TotalAISpendHigh fires.',
        lib.now(q.fullest('ai_spend_monthly_usd', 'ai_spend_monthly_limit_usd')),
        'percentunit',
      ) + lib.budgetSteps + lib.max(1.2),
      lib.number(
        'Budget adherence',
        'Share of all cloud and AI budgets that are not overspent in their current period.',
        lib.now('1 - avg(%s)' % above(1)),
        'percentunit',
      ) + lib.needs('a budget') + lib.steps([[0, 'red'], [0.9, 'orange'], [1, 'green']]),
      lib.number(
        'Budgets above 80 %',
        'Cloud and AI budgets of which more than 80 % is spent in their current period.',
        lib.now('sum(%s)' % above('0.8')),
        'none',
      ) + lib.needs('a budget') + lib.steps([[1, 'orange']]),
      lib.number(
        'Cost per customer',
        'The bills of this month so far divided by the tenants that have used AI or sent a request.',
        lib.now('global:cloud_cost_per_tenant_usd:ratio'),
        'currencyUSD',
      ) + lib.needs('bills'),
      lib.number(
        'AI per customer',
        'Metered AI cost of this month so far divided by the tenants that have used AI or sent a request.',
        lib.now('%s / global:tenants:count' % q.total('ai_spend_monthly_usd')),
        'currencyUSD',
      ) + lib.needs('AI usage'),
      lib.numbers(
        'Month over month',
        |||
          This month against the whole month before: as it is forecast to end, which compares like with like, and so far: -40 % on the 18th of a
          month of 30 days is a steady cost.
        |||,
        [
          lib.now('sum(%s) / ignoring (month) (global:cloud_cost_monthly_usd:sum{month="previous"} > 0) - 1' % q.forecast(''), 'by forecast'),
          lib.now('global:cloud_cost_monthly_growth:ratio', 'so far'),
        ],
        'percentunit',
        4,
      ) + lib.needs('bills') + lib.stepsOf('by forecast', [[0.2, 'orange']]),
      lib.numbers(
        'Alerts that fire',
        'Alerts of costwarden that fire now. They stand at the end of this page, with what is only information.',
        [
          lib.now(
            'count(ALERTS{category="finops", alertstate="firing", severity="%s"}) or 0 * max(costwarden_rules_info)' % severity,
            severity
          )
          for severity in ['critical', 'warning']
        ],
        'none',
        4,
      ) + lib.stepsOf('critical', [[1, 'red']]) + lib.stepsOf('warning', [[1, 'orange']]),
    ]),
    lib.row('Against the budget', [
      lib.lines(
        'Month to date and forecast',
        |||
          All bills of the month as they grow, what they will come to, the bounds between which 80 % of months end, and the budgets of those
          clouds that have one together.
        |||,
        [
          lib.over(month, 'month to date'),
          lib.over('sum(%s)' % q.forecast(''), 'forecast'),
          lib.over(q.bound('-', 'lower', ''), 'lower bound'),
          lib.over(q.bound('+', 'upper', ''), 'upper bound'),
          lib.over(budget, 'budget'),
        ],
        'currencyUSD',
      ) + lib.needs('bills') + lib.band('lower bound', 'upper bound') + lib.limit('budget'),
      lib.columns(
        'Months',
        'Cost of each calendar month that the ledger knows; the earliest are summed.',
        lib.rows(q.months('')),
        'currencyUSD',
        'month',
      ) + lib.needs('bills'),
      lib.grid(
        'Cloud budgets',
        'The 20 fullest cloud budgets by the share that is spent this month.',
        [
          lib.rows(fullestClouds),
          byCloudBudget('cloud_budget_limit_usd'),
          byCloudBudget('cloud_budget_spent_usd'),
          byCloudBudget('cloud_budget_forecast_usd'),
        ],
        'currencyUSD',
        ['budget', 'provider'],
        ['Used', 'Limit', 'Spent', 'Forecast'],
        12,
      ) + lib.needs('a cloud budget') + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used')
      + lib.leadsBy('provider', 'Cost of ${__value.text}', 'finops-cloud-cost'),
      lib.grid(
        'AI budgets',
        'The 20 fullest AI budgets by the share that is spent, or unsettled, in their period.',
        [
          lib.rows(fullestAi),
          byAiBudget('ai_budget_limit_usd'),
          byAiBudget('ai_budget_spent_usd'),
          lib.rows(q.among(fullestAi, '1000 * ' + ofAiBudgets('ai_budget_reset_timestamp_seconds'))),
        ],
        'currencyUSD',
        ['budget', 'period', 'tenant_id'],
        ['Used', 'Limit', 'Spent', 'Resets'],
        12,
      ) + lib.needs('an AI budget') + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used') + lib.unitOf('Resets', 'dateTimeFromNow')
      + lib.leadsBy('tenant_id', 'AI budgets of ${__value.text}', 'finops-ai-budget'),
    ]),
    lib.row('What drives it', [
      lib.grid(
        'Top cost drivers, this month',
        |||
          The 10 services that cost most this month, and what they cost in the whole month before. Workloads of a cluster stand beside the
          machines that they run on.
        |||,
        [
          lib.rows(dearest),
          lib.rows(q.among(dearest, ofServices('previous'))),
        ],
        'currencyUSD',
        ['provider', 'service'],
        ['Month to date', 'Month before'],
        10,
        12,
      ) + lib.needs('bills') + lib.leadsBy('provider', 'Cost of ${__value.text}', 'finops-cloud-cost'),
      lib.bars(
        'AI cost by model, 30 days',
        'Metered AI cost of the last 30 days, the 10 models that cost most.',
        lib.now('sort_desc(topk(10, model:ai_token_usage_cost_window_usd:sum{window="30d"}))', '{{provider}} {{model}}'),
        'currencyUSD',
        8,
        12,
      ) + lib.needs('AI usage'),
      lib.grid(
        'Top AI consumers',
        'The 10 tenants whose AI requests cost most in the last 30 days, and what of it in the last 7.',
        [
          lib.rows(consumers),
          lib.rows(q.among(consumers, ofTenants('7d'))),
        ],
        'currencyUSD',
        ['tenant_id'],
        ['30 days', '7 days'],
        6,
        12,
      ) + lib.needs('AI usage') + lib.leadsBy('tenant_id', 'AI budgets of ${__value.text}', 'finops-ai-budget'),
      lib.bars(
        'AI cost by provider, all time',
        'Metered AI cost since the ledger began.',
        lib.now('sort_desc(%s)' % q.named('finops_cost_by_provider_usd', 'provider'), '{{name}}'),
        'currencyUSD',
        6,
        8,
      ) + lib.needs('AI usage'),
      lib.number(
        'AI cost, all time',
        'Metered AI cost of all providers since the ledger began.',
        lib.now('finops_total_cost_usd'),
        'currencyUSD',
        6,
        8,
      ) + lib.needs('AI usage'),
      lib.number(
        'Cost of a million tokens, all time',
        'Of all models together, input and output, since the ledger began.',
        lib.now('global:ai_cost_per_mtok_usd:ratio'),
        'currencyUSD',
        6,
        8,
      ) + lib.needs('AI usage'),
      lib.bars(
        'Tokens by model, all time',
        'Input and output tokens since the ledger began, the 10 models with the most.',
        lib.now('sort_desc(topk(10, finops_tokens_total))', '{{provider}} {{model}}'),
        'short',
        6,
        8,
      ) + lib.needs('AI usage'),
    ]),
    lib.row('What could be saved', [
      lib.gauge(
        'Cost that has an owner',
        'Share of the usage and purchases of this month that has a team: what nobody owns nobody saves.',
        lib.now('min(cloud_cost_attributed_ratio{target="team"})'),
        'percentunit',
      ) + lib.needs('bills') + lib.max(1) + lib.ownedSteps,
      lib.number(
        'Cost without an owner',
        'Usage and purchases of this month without a team.',
        lib.now(q.total('cloud_cost_unattributed_usd{target="team"}')),
        'currencyUSD',
      ),
      lib.gauge(
        'Clusters explained',
        'Share of the bills of those clouds that clusters run on which the clusters explain: the rest is idle, or runs beside them.',
        lib.now('%s / (%s > 0)' % [q.sum('kubernetes_cost_explained_usd'), q.sum('kubernetes_cost_explained_bill_usd')]),
        'percentunit',
      ) + lib.max(1) + lib.needs('a cluster'),
      lib.gauge(
        'AI input from caches',
        'Share of all input tokens that providers read from their caches, which costs a tenth to a half.',
        lib.now('%s / (%s > 0)' % [q.sum('ai_tokens_total{type="cache_read"}'), q.sum('ai_tokens_total{type="input"}')]),
        'percentunit',
      ) + lib.needs('AI usage') + lib.max(1),
      lib.gauge(
        'AI bills metered',
        'Share of what AI providers have billed that was metered; of the provider with the lowest one.',
        lib.now('min(ai_reconciliation_capture_ratio)'),
        'percentunit',
      ) + lib.max(1) + lib.steps([[0, 'red'], [0.8, 'orange'], [0.9, 'green']]) + lib.needs('AI bills'),
      lib.number(
        'AI calls refused, 30 days',
        'Checks that were answered with no before they cost anything.',
        lib.now(q.orZero('sum(increase(ai_budget_checks_total{outcome="denied"}[30d]))')),
        'short',
      ) + lib.whole,
    ]),
    lib.row('Budgets and alerts', [
      lib.bars(
        'Budgets used, per cent',
        'Cloud and AI budgets by the share that is spent in their period, the 15 fullest; 100 is the limit.',
        lib.now('sort_desc(topk(15, max by (budget) (finops_budget_percentage_used)))', '{{budget}}'),
        'percent',
        16,
        9,
      ) + lib.needs('a budget') + lib.steps([[80, 'orange'], [100, 'red']]) + lib.max(120),
      lib.numbers(
        'Alerts of budgets',
        'Alerts about a budget that fire, by severity. An overspent budget is two of them, a warning and a critical one.',
        [lib.now('max(finops_budget_alerts_active{severity="%s"})' % severity, severity) for severity in ['critical', 'warning', 'info']],
        'none',
        8,
        9,
      ) + lib.stepsOf('critical', [[1, 'red']]) + lib.stepsOf('warning', [[1, 'orange']]) + lib.stepsOf('info', [[1, 'blue']]) + lib.leads('Remediation', 'finops-remediation'),
      lib.firing('.*'),
    ]),
  ],
)
