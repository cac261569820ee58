local lib = import 'lib.libsonnet';
local q = import 'queries.libsonnet';

local fullest = |||
  topk(100, max by (budget, period, tenant_id, action, job) (
    (ai_budget_spent_usd + ai_budget_unsettled_usd) / ignoring (action) group_right () (ai_budget_limit_usd{action!=""} > 0)
  ))
|||;

local fullestClouds = |||
  topk(100, max by (budget, provider, action, job) (
    cloud_budget_spent_usd / ignoring (action) group_right () (cloud_budget_limit_usd{action!=""} > 0)
  ))
|||;

lib.dashboard(
  uid='finops-remediation',
  title='FinOps: remediation',
  description='What costwarden stops, suspends and asks about when a budget is used up, what it refused to do, and what waits for a person.',
  variables=[],
  since='now-7d',
  rows=[
    lib.row('Now', [
      lib.names('Mode', 'off does nothing, dry-run only plans, approve asks a person, enforce acts.', lib.now('max by (mode) (costwarden_remediation_mode)', '{{mode}}'), 4),
      lib.number(
        'Kill switch',
        'Whether the kill switch is on: then no playbook runs.',
        lib.now('max(costwarden_remediation_kill_switch)'),
        'none',
      ) + lib.words(['off', 'green'], ['on', 'red']),
      lib.number(
        'Waits for approval',
        'Runs that wait for a person. `costwarden remediate approve` lets one go on, `reject` ends it.',
        lib.now(q.total('costwarden_remediation_queue_length{state="awaiting_approval"}')),
        'none',
      ) + lib.steps([[1, 'orange']]),
      lib.number(
        'Interrupted',
        'Runs that a crash has interrupted. A person must look: `costwarden remediate show`.',
        lib.now(q.total('costwarden_remediation_queue_length{state="interrupted"}')),
        'none',
      ) + lib.steps([[1, 'red']]),
      lib.number(
        'Runs failed, 7 days',
        'Runs of playbooks that failed or stopped half way in the last 7 days. `costwarden remediate list` has them.',
        lib.now(q.orZero(q.grown('costwarden_remediation_runs_total{outcome=~"failed|timed_out|stopped|interrupted"}', 7))),
        'none',
      ) + lib.steps([[1, 'red']]),
      lib.number(
        'Refused, 7 days',
        'Runs that the guard has refused in the last 7 days.',
        lib.now(q.orZero(q.grown('costwarden_remediation_refused_total', 7))),
        'none',
      ) + lib.steps([[1, 'orange']]),
      lib.firing('Remediation.*|BudgetExceededCritical|AIBudgetExceeded|CostGuardrail.*|AIEmergencyStop'),
    ]),
    lib.row('Runs', [
      lib.bars(
        'Runs by outcome',
        'Runs of each playbook since the ledger began, by how they ended.',
        lib.now('sort_desc(%s)' % q.sum('costwarden_remediation_runs_total', 'playbook, outcome'), '{{playbook}}: {{outcome}}'),
        'short',
        12,
      ) + lib.needs('a playbook that has run'),
      lib.bars(
        'Refusals by reason',
        'Why the guard has refused runs since the ledger began.',
        lib.now(q.orNone('sort_desc(%s)' % q.sum('costwarden_remediation_refused_total', 'playbook, reason'), 'reason'), '{{playbook}} {{reason}}'),
        'short',
        12,
      ),
      lib.lines(
        'Queue',
        'Alerts in the queue that are not done with, by state.',
        [lib.over(q.totals('state', 'costwarden_remediation_queue_length'), '{{state}}')],
        'none',
        8,
      ) + lib.stacked,
      lib.lines(
        'Runs',
        'Runs in the hour before each moment, by outcome.',
        [lib.over(q.sum('increase(costwarden_remediation_runs_total[1h])', 'outcome'), '{{outcome}}')],
        'short',
        8,
      ) + lib.needs('a playbook that has run'),
      lib.lines(
        'Alerts received',
        'Alerts that Alertmanager has delivered in the hour before each moment, by what became of them.',
        [lib.over('sum by (outcome) (increase(costwarden_webhook_alerts_total[1h]))', '{{outcome}}')],
        'short',
        8,
      ),
    ]),
    lib.row('What may start one', [
      lib.grid(
        'AI budgets with a playbook',
        'AI budgets whose alert starts a playbook when they are used up, the 100 fullest.',
        [
          lib.rows(fullest),
          lib.rows(q.among(fullest, 'max by (budget, period, tenant_id, action, job) (ai_budget_limit_usd{action!=""})')),
        ],
        'currencyUSD',
        ['budget', 'period', 'tenant_id', 'action'],
        ['Used', 'Limit'],
        12,
      ) + lib.needs('an AI budget with an `action`') + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used')
      + lib.leadsBy('tenant_id', 'AI budgets of ${__value.text}', 'finops-ai-budget'),
      lib.grid(
        'Cloud budgets with a playbook',
        'Cloud budgets whose alert starts a playbook when they are overspent, the 100 fullest.',
        [
          lib.rows(fullestClouds),
          lib.rows(q.among(fullestClouds, 'max by (budget, provider, action, job) (cloud_budget_limit_usd{action!=""})')),
        ],
        'currencyUSD',
        ['budget', 'provider', 'action'],
        ['Used', 'Limit'],
        12,
      ) + lib.needs('a cloud budget with an `action`') + lib.budgetSteps + lib.unitOf('Used', 'percentunit') + lib.coloured('Used')
      + lib.leadsBy('provider', 'Cost of ${__value.text}', 'finops-cloud-cost'),
      lib.grid(
        'Guardrails',
        'Guardrails, what they have cost in their window, and the playbook that their alert starts, where they name one.',
        [
          lib.rows('max by (guardrail, severity, action, job) (costwarden_guardrail_breached)'),
          lib.rows('max by (guardrail, severity, action, job) (costwarden_guardrail_spend_usd)'),
          lib.rows('max by (guardrail, severity, action, job) (costwarden_guardrail_threshold_usd)'),
        ],
        'currencyUSD',
        ['guardrail', 'severity', 'action'],
        ['Breached', 'Spent', 'Threshold'],
        24,
        7,
      ) + lib.wordsOf('Breached', ['no', 'green'], ['yes', 'red']) + lib.needs('`guardrails` in costwarden.yaml'),
    ]),
  ],
)
