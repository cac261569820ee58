// Expressions that several dashboards read. `chosen` is a matcher of a variable, or nothing.
{
  clouds:: ['aws', 'gcp', 'azure', 'kubernetes'],

  // Whether more than one provider is chosen.
  local several(chosen) = 'count(count by (provider) (provider:cloud_cost_monthly_usd:sum{%s})) > 1' % chosen,

  // What the ledger says, once: replicas that share it say the same. What a process counts for itself is summed instead.
  once(selector):: 'max without (instance, pod) (%s)' % selector,
  // Sums of what the ledger says.
  sum(selector, by=''):: 'sum %s(%s)' % [if by == '' then '' else 'by (%s) ' % by, self.once(selector)],

  // What is chosen in a variable, as a matcher. Raw, between backticks, because a name may hold a quote, which Grafana does not escape.
  chosen(name):: '%(name)s=~`${%(name)s:regex}`' % { name: name },

  // The same, and what has no such label.
  chosenOrNone(name):: '%(name)s=~`(${%(name)s:regex})?`' % { name: name },

  // What every costwarden with a ledger of its own says of it, together. Each of them has a `job`.
  total(metric):: 'sum(max by (job) (%s))' % metric,
  totals(labels, metric):: 'sum by (%(labels)s) (max by (%(labels)s, job) (%(metric)s))' % { labels: labels, metric: metric },

  // The share of a limit of the costwarden that has used most of its own.
  fullest(metric, limit):: 'max(max by (job) (%s) / (max by (job) (%s) > 0))' % [metric, limit],

  // 0 where costwarden answers: where it does not, nothing is known, and a 0 would calm whoever looks.
  zero:: '0 * max(costwarden_build_info)',
  orZero(expr):: '(%s) or %s' % [expr, self.zero],

  // Lines over time of the series that lead at the end of it. The first of each moment would be others at each: thousands of lines.
  // `figures` is a function of the modifier `@` of its selectors.
  leading(number, by, figures):: '%s and on (%s) topk(%d, %s)' % [figures(''), by, number, figures(' @ end()')],

  // The figures of those series alone that `ranking` has, whose labels are the same: the other columns of a table of the first few.
  among(ranking, figures):: '%s and %s' % [figures, ranking],

  // The same with a label `name`: that of `label`, or `(no …)` where there is none. Beside the label, not in its place: what somebody has
  // called "(no feature)" would be a second series of that name, and no answer at all.
  named(expr, label)::
    'label_replace(label_join(%s, "name", "", "%s"), "name", "(no %s)", "%s", "")' % [expr, label, label, label],

  // By how much counters of the ledger have grown within `days`. Nothing restarts them, and each is born with its first event already in it,
  // which `increase` does not see. All of it counts to a Prometheus that is younger. An hour: the scrape of that moment may have failed.
  grown(metric, days, by='')::
    local now = self.once(metric);
    'sum %s(clamp_min(%s - (%s or 0 * %s), 0))'
    % [if by == '' then '' else 'by (%s) ' % by, now, self.once('last_over_time(%s[1h] offset %dd)' % [metric, days]), now],

  // The same of counters that a process keeps: `increase` knows their restarts. What one was born with counts where it was born since: its
  // target was known before, or its process has begun since.
  counted(metric, days, by)::
    |||
      sum by (%(by)s) (
        increase(%(metric)s[%(days)dd])
        or label_replace(
          min_over_time(%(metric)s[%(days)dd]) unless last_over_time(%(metric)s[1h] offset %(days)dd)
          and on (job, instance) (
            last_over_time(process_start_time_seconds[1h] offset %(days)dd) or process_start_time_seconds > time() - %(days)d * 86400
          ),
          "born", "yes", "", ""
        )
      )
    ||| % { by: by, metric: metric, days: days },

  // Where there is nothing a 0 that has a name.
  orNone(expr, label):: '%s or on () label_replace(%s, "%s", "none", "", "")' % [expr, self.zero, label],

  // A cluster's share of a cloud's bill stands in that bill already: a sum over providers leaves it out. One cloud alone has all of its cost.
  own(month, chosen)::
    '(sum(provider:cloud_cost_own_monthly_usd:sum{month="%s", %s}) and on () (%s) or sum(provider:cloud_cost_monthly_usd:sum{month="%s", %s}))'
    % [month, chosen, several(chosen), month, chosen],

  // The share of a provider's cost that no other provider bills. Of what is no month's it is that of two: on the first of one, this month
  // may be empty yet.
  local share(chosen, months) =
    'sum by (provider) (provider:cloud_cost_own_monthly_usd:sum{month=~"%s"})' % months
    + ' / (sum by (provider) (provider:cloud_cost_monthly_usd:sum{month=~"%s"}) > 0)' % months
    + if chosen == '' then '' else ' and on () (%s)' % several(chosen),
  local scaled(figures, chosen) = '(%(all)s * (%(share)s) or %(all)s)' % { all: figures, share: share(chosen, 'current|previous') },

  // Sums of this month's cost by labels of services.
  services(labels, chosen)::
    local cost = 'service:cloud_cost_monthly_usd:sum{month="current", %s}' % chosen;
    'sum by (%s) (%s * on (provider) group_left () (%s) or %s)' % [labels, cost, share(chosen, 'current'), cost],

  // The limits of clouds as wholes, by provider: as the cost that is held against them, without what stands in another's.
  budgets(chosen):: scaled('max by (provider) (provider:cloud_budget_monthly_limit_usd:sum{%s})' % chosen, chosen),

  // By provider.
  forecast(chosen):: scaled(self.totals('provider', 'cloud_cost_forecast_usd{%s}' % chosen), chosen),
  // Of all together: bills stray independently of each other, so their variances add up.
  bound(sign, name, chosen)::
    local all = self.forecast(chosen);
    'sum(%s) %s sqrt(sum((%s - %s) ^ 2))' % [all, sign, scaled(self.totals('provider', 'cloud_cost_forecast_%s_usd{%s}' % [name, chosen]), chosen), all],

  // Named so that they sort by time: ( comes before digits, digits before letters.
  months(chosen):: |||
    label_replace(label_replace(label_replace(
      %s,
      "month", "(older)", "month", "older"), "month", "last month", "month", "previous"), "month", "this month", "month", "current")
  ||| % (
    if chosen == '' then 'sum by (month) (provider:cloud_cost_own_monthly_usd:sum)'
    else 'sum by (month) (provider:cloud_cost_own_monthly_usd:sum{%s}) and on () (%s) or sum by (month) (provider:cloud_cost_monthly_usd:sum{%s})'
         % [chosen, several(chosen), chosen]
  ),
}
