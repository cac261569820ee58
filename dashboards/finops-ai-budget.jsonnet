local lib = import 'lib.libsonnet';
local q = import 'queries.libsonnet';

// `.*` of the variable also matches budgets that name no tenant.
local chosen = q.chosen('tenant_id');
local labels = ['budget', 'period', 'tenant_id', 'team', 'user_id', 'service', 'feature'];
local ofBudgets(metric) = 'max by (%s, job) (%s{%s})' % [std.join(', ', labels), metric, chosen];
local used = ofBudgets('budget:ai_budget_spent:ratio');
local fullest = 'topk(100, %s)' % used;
local byBudget(metric) = lib.rows(q.among(fullest, ofBudgets(metric)));
local fastest = 'topk(20, max by (%s, job) (budget:ai_budget_spent:ratio{%s} / (budget:ai_budget_period_elapsed:ratio > 0)))'
                % [std.join(', ', labels), chosen];
local byPace(metric) = lib.rows(q.among(fastest, ofBudgets(metric)));
// At a moment, where `at` has one: the modifier `@`.
local tenants(metric, at='') = q.totals('tenant_id', '%s{%s}%s' % [metric, chosen, at]);
local lastHour(at='') = 'sum without (window) (tenant:ai_token_usage_cost_window_usd:sum{window="1h", %s}%s)' % [chosen, at];
local beyond(at) =
  '(%s - %s - scalar(max(cost_anomaly_limit_deviations)) * %s)'
  % [lastHour(at), tenants('ai_cost_expected_hourly_usd', at), tenants('ai_cost_deviation_hourly_usd', at)];
local burn(window) = q.leading(
  10, 'budget, period', function(at) 'max by (budget, period) (budget:ai_budget_burn:rate%s{%s}%s)' % [window, chosen, at],
);
// From which burn on an alert looks, where there is any burn to see.
local factor(times, window) = '%d + 0 * count(budget:ai_budget_burn:rate%s{%s})' % [times, window, chosen];
// A window has a figure once Prometheus knows its begin.
local history = lib.needs('as much history as the window is long');
local excess = 'topk(20, %s - %s)' % [lastHour(), tenants('ai_cost_expected_hourly_usd')];

lib.dashboard(
  uid='finops-ai-budget',
  title='FinOps: AI budgets',
  description='What AI requests cost, by whom and on which model, and how budgets stand. Figures are US dollars, exact from the ledger.',
  // Those that have a budget and have called nothing yet, too.
  variables=[lib.variable('tenant_id', 'Tenant', '{__name__=~"ai_budget_limit_usd|ai_requests_total"}')],
  about='tenant_id',
  rows=[
    lib.row('This month', [
      lib.number('Month to date', 'AI cost of all tenants this calendar month, whatever is chosen above.', lib.now(q.total('ai_spend_monthly_usd')), 'currencyUSD', 4),
      lib.gauge(
        'Of the limit',
        'Month to date of all tenants as a share of the limit above which TotalAISpendHigh fires.',
        lib.now(q.fullest('ai_spend_monthly_usd', 'ai_spend_monthly_limit_usd')),
        'percentunit',
        4,
      ) + lib.budgetSteps + lib.max(1.2),
      lib.number(
        'Budgets used up',
        'Budgets that refuse every request.',
        lib.now(q.sum('ai_budget_hard_limit_reached{%s}' % chosen)),
        'none',
        4,
      ) + lib.needs('an AI budget') + lib.steps([[1, 'red']]),
      lib.number(
        'Budgets at risk',
        'Budgets that have reached their soft limit.',
        lib.now(q.sum('ai_budget_soft_limit_reached{%s}' % chosen)),
        'none',
        4,
      ) + lib.needs('an AI budget') + lib.steps([[1, 'orange']]),
      lib.number(
        'Refused, 24 hours',
        'Checks of all tenants in the last 24 hours that were answered with no, for whatever reason.',
        lib.now(q.orZero('sum(increase(ai_budget_checks_total{outcome="denied"}[1d]))')),
        'short',
        4,
      ) + lib.whole,
      lib.number(
        'Emergency stop',
        'Whether every check of all tenants is refused until an operator lifts it.',
        lib.now('max(ai_emergency_stop)'),
        'none',
        4,
      ) + lib.words(['off', 'green'], ['on', 'red']),
      lib.lines(
        'Forecast of the month',
        'All tenants: the month to date, what it will have cost by its end, the bounds between which 80 % of months end, and the limit.',
        [
          lib.over(q.total('ai_spend_monthly_usd'), 'month to date'),
          lib.over(q.total('ai_spend_forecast_usd'), 'forecast'),
          lib.over(q.total('ai_spend_forecast_lower_usd'), 'lower bound'),
          lib.over(q.total('ai_spend_forecast_upper_usd'), 'upper bound'),
          lib.over(q.total('ai_spend_monthly_limit_usd'), 'limit'),
        ],
        'currencyUSD',
      ) + lib.band('lower bound', 'upper bound') + lib.limit('limit'),
      lib.lines(
        'Spend of 24 hours',
        'Cost of the 24 hours before each moment, of the 10 tenants that lead at the end of the time range.',
        [
          lib.over(
            q.leading(10, 'tenant_id', function(at) 'tenant:ai_token_usage_cost_window_usd:sum{window="1d", %s}%s' % [chosen, at]),
            '{{tenant_id}}',
          ),
        ],
        'currencyUSD',
      ) + lib.needs('AI usage') + lib.bare,
    ]),
    lib.row('Budgets', [
      lib.grid(
        'Budget status',
        'Budgets in their current period, the 100 fullest. Used is spent and unsettled as a share of the limit.',
        [
          lib.rows(fullest),
          byBudget('ai_budget_limit_usd'),
          byBudget('ai_budget_spent_usd'),
          byBudget('ai_budget_reserved_usd'),
          byBudget('ai_budget_unsettled_usd'),
          lib.rows(q.among(fullest, '1000 * ' + ofBudgets('ai_budget_reset_timestamp_seconds'))),
        ],
        'currencyUSD',
        labels,
        ['Used', 'Limit', 'Spent', 'Reserved', 'Unsettled', 'Resets'],
        height=10,
      ) + lib.needs('an AI budget') + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used') + lib.unitOf('Resets', 'dateTimeFromNow')
      + lib.leadsBy('tenant_id', 'Only ${__value.text}', 'finops-ai-budget'),
      lib.grid(
        'At risk',
        |||
          The 20 budgets that spend fastest for their period: at a pace of 1 all of the limit is spent when the period ends, above it before.
          The forecast is of a month by its last 7 days, else by the period so far; there is none in the first tenth of a period.
        |||,
        [
          lib.rows(fastest),
          lib.rows(q.among(fastest, used)),
          byPace('budget:ai_budget_forecast_usd:sum'),
          byPace('ai_budget_limit_usd'),
          byPace('ai_budget_soft_limit_reached'),
        ],
        'currencyUSD',
        labels,
        ['Pace', 'Used', 'Forecast', 'Limit', 'Soft limit'],
        12,
        10,
      ) + lib.needs('an AI budget') + lib.unitOf('Pace', 'none') + lib.coloured('Pace', [[0.9, 'orange'], [1, 'red']])
      + lib.unitOf('Used', 'percentunit') + lib.budgetSteps + lib.coloured('Used') + lib.wordsOf('Soft limit', ['below', 'green'], ['reached', 'orange'])
      + lib.leadsBy('tenant_id', 'Only ${__value.text}', 'finops-ai-budget'),
      lib.bars(
        'Thresholds reached',
        'The highest threshold (50, 75, 80, 90 and 100 % as shipped) that a budget has reached in its period, of the 20 with the highest.',
        lib.now('sort_desc(topk(20, max by (budget, threshold) (ai_budget_threshold_ratio{%s})))' % chosen, '{{budget}}'),
        'percentunit',
        5,
        10,
      ) + lib.needs('a budget that has reached one') + lib.budgetSteps + lib.max(1),
      lib.grid(
        'Guardrails',
        'What AI calls of all tenants have cost in the window of each guardrail, and from what on it is breached.',
        [
          lib.rows('max by (guardrail, severity, job) (costwarden_guardrail_breached)'),
          lib.rows('max by (guardrail, severity, job) (costwarden_guardrail_spend_usd)'),
          lib.rows('max by (guardrail, severity, job) (costwarden_guardrail_threshold_usd)'),
        ],
        'currencyUSD',
        ['guardrail', 'severity'],
        ['Breached', 'Spent', 'Threshold'],
        7,
        10,
      ) + lib.wordsOf('Breached', ['no', 'green'], ['yes', 'red']) + lib.needs('`guardrails` in costwarden.yaml'),
    ]),
    lib.row('How fast budgets are spent', [
      lib.lines(
        'Burn of an hour',
        |||
          How fast the 10 budgets are spent that are the fastest at the end of the time range: 1 is all of the limit by the end of the period.
          AIBudgetBurnsFast looks at 13, the dashed line, and over 6 hours at 6.
        |||,
        [lib.over(burn('1h'), '{{budget}} {{period}}'), lib.over(factor(13, '1h'), 'AIBudgetBurnsFast')],
        'none',
      ) + lib.bare + lib.limit('AIBudgetBurnsFast') + history,
      lib.lines(
        'Burn of a day',
        |||
          The same of a day, of budgets of a week or a month: 1 is all of the limit by the end of the period. AIBudgetBurnsSlowly looks at
          3, the dashed line, and over 3 days at 2.
        |||,
        [lib.over(burn('1d'), '{{budget}} {{period}}'), lib.over(factor(3, '1d'), 'AIBudgetBurnsSlowly')],
        'none',
      ) + lib.bare + lib.limit('AIBudgetBurnsSlowly') + history,
    ]),
    lib.row('Who and what', [
      lib.bars(
        'Spend by tenant, 30 days',
        'The 10 largest of the last 30 days.',
        lib.now('sort_desc(topk(10, tenant:ai_token_usage_cost_window_usd:sum{window="30d", %s}))' % chosen, '{{tenant_id}}'),
        'currencyUSD',
      ) + lib.needs('AI usage') + lib.seriesLeadsBy('tenant_id', 'Only ${__field.labels.tenant_id}', 'finops-ai-budget'),
      lib.bars(
        'Spend by model, 30 days',
        'The 10 largest of the last 30 days, of the chosen tenants.',
        lib.now(
          'sort_desc(topk(10, %s))' % q.sum('ai_token_usage_cost_window_usd{window="30d", %s}' % chosen, 'provider, model'),
          '{{provider}} {{model}}',
        ),
        'currencyUSD',
      ) + lib.needs('AI usage'),
      lib.bars(
        'Spend by feature, all time',
        'The 10 largest since the ledger began, of the chosen tenants.',
        lib.now(
          'sort_desc(topk(10, %s))' % q.named(q.sum('ai_token_usage_cost_usd{%s}' % chosen, 'feature'), 'feature'),
          '{{name}}',
        ),
        'currencyUSD',
      ) + lib.needs('AI usage'),
    ]),
    lib.row('Efficiency', [
      lib.bars(
        'Cost of a million tokens, all time',
        'Input and output together, of all tenants since the ledger began, by model.',
        lib.now('sort_desc(model:ai_cost_per_mtok_usd:ratio)', '{{provider}} {{model}}'),
        'currencyUSD',
      ) + lib.needs('AI usage'),
      lib.bars(
        'Cost of a report, all time',
        'Average cost of a request by report type, failed ones included, since the ledger began.',
        lib.now(
          'sort_desc(%s / (%s > 0))' % [
            q.sum('ai_token_usage_cost_usd{report_type!="", %s}' % chosen, 'report_type'),
            q.sum('ai_requests_total{report_type!="", %s}' % chosen, 'report_type'),
          ],
          '{{report_type}}',
        ),
        'currencyUSD',
      ) + lib.needs('AI usage'),
      lib.bars(
        'Cached input, all time',
        'Share of the input tokens that a provider read from its cache, which costs a tenth to a half, since the ledger began.',
        lib.now(
          'sort_desc(%s / (%s > 0))' % [
            q.sum('ai_tokens_total{type="cache_read", %s}' % chosen, 'provider, model'),
            q.sum('ai_tokens_total{type="input", %s}' % chosen, 'provider, model'),
          ],
          '{{provider}} {{model}}',
        ),
        'percentunit',
      ) + lib.needs('AI usage') + lib.max(1),
      lib.lines(
        'Tokens a second',
        'By type; input contains the cached ones, output the reasoning ones.',
        [lib.over(q.sum('rate(ai_tokens_total{%s}[$__rate_interval])' % chosen, 'type'), '{{type}}')],
        'short',
        12,
      ) + lib.needs('AI usage'),
      lib.lines(
        'Requests a second',
        'Metered operations by how they ended.',
        [lib.over(q.sum('rate(ai_requests_total{%s}[$__rate_interval])' % chosen, 'outcome'), '{{outcome}}')],
        'reqps',
        12,
      ) + lib.needs('AI usage'),
    ]),
    lib.row('Spikes', [
      lib.lines(
        'Hour against the week',
        |||
          Cost of the last hour divided by the average hour of the last 7 days, of the 10 tenants that lead at the end of the time range: 1 is
          an hour like any other.
        |||,
        [lib.over(q.leading(10, 'tenant_id', function(at) 'tenant:ai_cost_hourly:ratio{%s}%s' % [chosen, at]), '{{tenant_id}}')],
        'short',
        8,
      ) + lib.needs('AI usage') + lib.bare,
      lib.lines(
        'Hours beyond what is expected',
        'Cost of the last hour above the limit of AISpendAnomaly, of the 5 tenants that lead at the end of the time range; below 0 is as usual.',
        [lib.over(q.leading(5, 'tenant_id', beyond), '{{tenant_id}}')],
        'currencyUSD',
        8,
      ) + lib.bare + lib.needs('some weeks of usage'),
      lib.grid(
        'Expected and observed',
        'Cost of the last hour by tenant, against the median of this hour on such days in the four weeks before: the 20 largest excesses.',
        [
          lib.rows(excess),
          lib.rows(q.among(excess, lastHour())),
          lib.rows(q.among(excess, tenants('ai_cost_expected_hourly_usd'))),
          lib.rows(q.among(excess, tenants('ai_cost_deviation_hourly_usd'))),
        ],
        'currencyUSD',
        ['tenant_id'],
        ['Excess', 'Observed', 'Expected', 'Deviation'],
        8,
      ) + lib.needs('some weeks of usage') + lib.leadsBy('tenant_id', 'Only ${__value.text}', 'finops-ai-budget'),
    ]),
    lib.row('Refusals and gaps', [
      lib.lines(
        'Answers to checks',
        'Checks a second of all tenants by answer, and why they were refused.',
        [lib.over('sum by (outcome, reason) (rate(ai_budget_checks_total[$__rate_interval]))', '{{outcome}} {{reason}}')],
        'reqps',
        8,
      ),
      lib.bars(
        'Refusals, 24 hours',
        |||
          Checks of all tenants that were refused in the last 24 hours: by the budget that refused, the 10 that refused most, or for another
          reason, as `tenant_suspended`.
        |||,
        lib.now(
          q.orNone(
            'sort_desc(label_join(topk(10, %s), "name", " ", "budget", "period") or label_join(%s > 0, "name", "", "reason"))' % [
              q.counted('ai_budget_denied_checks_total', 1, 'budget, period'),
              'sum by (reason) (increase(ai_budget_checks_total{outcome="denied", reason!="budget_exceeded"}[1d]))',
            ],
            'name',
          ),
          '{{name}}',
        ),
        'short',
      ) + lib.whole,
      lib.bars(
        'Requests without a price, 24 hours',
        'Requests of all tenants in the last 24 hours whose model has no price: their cost may be in no figure.',
        lib.now(
          q.orNone('sort_desc(%s > 0)' % q.sum('increase(ai_unpriced_requests_total[1d])', 'provider, model'), 'model'), '{{provider}} {{model}}'
        ),
        'short',
      ) + lib.steps([[1, 'red']]) + lib.whole,
      lib.number(
        'Unsettled',
        'Reservations of calls of all tenants whose cost was never reported. They count as spent.',
        lib.now(q.total('costwarden_reservations{state="unsettled"}')),
        'none',
        4,
        7,
      ) + lib.steps([[1, 'orange']]),
      lib.number(
        'Unsettled dollars',
        'What calls may have cost whose cost was never reported, of the budgets that hold most of it.',
        lib.now(q.orZero('max(ai_budget_unsettled_usd{%s})' % chosen)),
        'currencyUSD',
        4,
        7,
      ),
      lib.grid(
        'Billed and metered',
        'What AI providers have billed for all tenants on the days that their bills have whole, and how much of it was metered.',
        [
          lib.rows('max by (provider, job) (ai_reconciliation_capture_ratio)'),
          lib.rows('max by (provider, job) (ai_billed_cost_usd)'),
          lib.rows('max by (provider, job) (ai_metered_cost_usd)'),
          lib.rows('max by (provider, job) (ai_reconciliation_corrected_usd)'),
          lib.rows('max by (provider, job) (ai_reconciliation_residual_usd)'),
          lib.rows('max by (provider, job) (ai_reconciliation_daily_bills)'),
        ],
        'currencyUSD',
        ['provider'],
        ['Captured', 'Billed', 'Metered', 'Corrected', 'Residual', 'Days'],
        16,
        7,
      ) + lib.sorted('Captured', desc=false) + lib.unitOf('Captured', 'percentunit') + lib.unitOf('Days', 'none')
      + lib.other('Captured', {
        'custom.cellOptions': { type: 'color-background' },
        thresholds: { mode: 'absolute', steps: [{ color: 'red', value: null }, { color: 'orange', value: 0.8 }, { color: 'green', value: 0.9 }] },
      }) + lib.needs('a source of an AI provider\'s bills'),
      lib.firing('AI.*|TotalAI.*|CostGuardrail.*|LedgerDown|CostwardenDown|PriceDataOld', 'tenant_id'),
    ]),
  ],
)
