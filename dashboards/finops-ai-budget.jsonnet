local lib = import 'lib.libsonnet';

// `.*` of the variable also matches budgets that name no tenant.
local chosen = 'tenant_id=~"$tenant_id"';
local byBudget(metric) = lib.rows('max by (budget, period, tenant_id) (%s{%s})' % [metric, chosen]);

lib.dashboard(
  uid='finops-ai-budget',
  title='FinOps: AI budgets',
  description='What AI requests cost, by whom and on which model, and how budgets stand. Figures are US dollars, exact from the ledger.',
  variables=[lib.variable('tenant_id', 'Tenant', 'ai_budget_limit_usd')],
  rows=[
    lib.row('This month', [
      lib.number('Month to date', 'AI cost of everything this calendar month.', lib.now('sum(ai_spend_monthly_usd)'), 'currencyUSD', 4),
      lib.gauge(
        'Of the limit',
        'Month to date as a share of the limit above which TotalAISpendHigh fires.',
        lib.now('sum(ai_spend_monthly_usd) / max(ai_spend_monthly_limit_usd)'),
        'percentunit',
        4,
      ) + lib.budgetSteps + lib.max(1.2),
      lib.number(
        'Budgets used up',
        'Budgets that refuse every request.',
        lib.now('count(ai_budget_hard_limit_reached{%s} == 1) or vector(0)' % chosen),
        'none',
        4,
      ) + lib.steps([[1, 'red']]),
      lib.number(
        'Budgets at risk',
        'Budgets that have reached their soft limit.',
        lib.now('count(ai_budget_soft_limit_reached{%s} == 1) or vector(0)' % chosen),
        'none',
        4,
      ) + lib.steps([[1, 'orange']]),
      lib.number(
        'Refused, 24 hours',
        'Checks of the last 24 hours that were answered with no, for whatever reason.',
        lib.now('sum(increase(ai_budget_checks_total{outcome="denied"}[1d]))'),
        'short',
        4,
      ),
      lib.number(
        'Unsettled',
        'Reservations of calls whose cost was never reported. They count as spent.',
        lib.now('sum(costwarden_reservations{state="unsettled"})'),
        'none',
        4,
      ) + lib.steps([[1, 'orange']]),
    ]),
    lib.row('Who and what', [
      lib.bars(
        'Spend by tenant',
        'The 10 largest of the last 30 days.',
        lib.now('sort_desc(topk(10, tenant:ai_token_usage_cost_window_usd:sum{window="30d", %s}))' % chosen, '{{tenant_id}}'),
        'currencyUSD',
      ),
      lib.bars(
        'Spend by model',
        'The 10 largest of the last 30 days, all tenants.',
        lib.now('sort_desc(topk(10, model:ai_token_usage_cost_window_usd:sum{window="30d"}))', '{{provider}} {{model}}'),
        'currencyUSD',
      ),
      lib.lines(
        'Spend of 24 hours',
        'Cost of the 24 hours before each moment, of the 10 tenants that lead.',
        [lib.over('topk(10, tenant:ai_token_usage_cost_window_usd:sum{window="1d", %s})' % chosen, '{{tenant_id}}')],
        'currencyUSD',
        8,
      ),
    ]),
    lib.row('Budgets', [
      lib.grid(
        'Budget status',
        'Every budget in its current period, fullest first. Used is spent and unsettled as a share of the limit.',
        [
          lib.rows('max by (budget, period, tenant_id) (budget:ai_budget_spent:ratio{%s})' % chosen),
          byBudget('ai_budget_limit_usd'),
          byBudget('ai_budget_spent_usd'),
          byBudget('ai_budget_reserved_usd'),
          byBudget('ai_budget_unsettled_usd'),
          lib.rows('1000 * max by (budget, period, tenant_id) (ai_budget_reset_timestamp_seconds{%s})' % chosen),
        ],
        'currencyUSD',
        ['budget', 'period', 'tenant_id'],
        ['Used', 'Limit', 'Spent', 'Reserved', 'Unsettled', 'Resets'],
        height=10,
      ) + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used') + lib.unitOf('Resets', 'dateTimeFromNow'),
    ]),
    lib.row('Efficiency', [
      lib.bars(
        'Cost of a million tokens',
        'Input and output together, since the ledger began, by model.',
        lib.now('sort_desc(model:ai_cost_per_mtok_usd:ratio)', '{{provider}} {{model}}'),
        'currencyUSD',
      ),
      lib.bars(
        'Cost of a report',
        'Average cost of a request by report type, failed ones included, since the ledger began.',
        lib.now(
          |||
            sort_desc(
              sum by (report_type) (ai_token_usage_cost_usd{report_type!="", %(chosen)s})
              / sum by (report_type) (ai_requests_total{report_type!="", %(chosen)s})
            )
          ||| % { chosen: chosen },
          '{{report_type}}',
        ),
        'currencyUSD',
      ),
      lib.lines(
        'Tokens a second',
        'By type; input contains the cached ones, output the reasoning ones.',
        [lib.over('sum by (type) (rate(ai_tokens_total{%s}[$__rate_interval]))' % chosen, '{{type}}')],
        'short',
        8,
      ),
    ]),
    lib.row('Spikes and gaps', [
      lib.lines(
        'Hour against the week',
        'Cost of the last hour divided by the average hour of the last 7 days: 1 is an hour like any other.',
        [lib.over('topk(10, tenant:ai_cost_hourly:ratio{%s})' % chosen, '{{tenant_id}}')],
        'short',
        8,
      ),
      lib.lines(
        'Answers to checks',
        'Checks a second by answer, and why they were refused.',
        [lib.over('sum by (outcome, reason) (rate(ai_budget_checks_total[$__rate_interval]))', '{{outcome}} {{reason}}')],
        'reqps',
        8,
      ),
      lib.bars(
        'Requests without a price',
        'Requests of the last 24 hours whose model has no price: their cost may be in no figure.',
        lib.now('sort_desc(sum by (provider, model) (increase(ai_unpriced_requests_total[1d])) > 0)', '{{provider}} {{model}}'),
        'short',
      ) + lib.steps([[1, 'red']]),
      lib.firing('AI.*|TotalAI.*|LedgerDown|CostwardenDown|RemediationFailed'),
    ]),
  ],
)
