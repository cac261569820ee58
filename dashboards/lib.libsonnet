// What the dashboards are made of: queries, panels with a unit and a sentence, rows that lay themselves out, the dashboard around them.
local q = import 'queries.libsonnet';

local source = { type: 'prometheus', uid: '${datasource}' };

// That of the package, whose rules the dashboards read: render.py puts it in.
local version = std.extVar('version');

// Grafana's grid is 24 columns wide.
local columns = 24;
local titleHeight = 1;

local letters = 'ABCDEFGHIJ';

// What a figure looks like that nothing judges: green and red say good and bad, and belong to thresholds. The mode is said, because newer
// Grafanas turn the marks of a gauge off where it is not.
local looks = {
  stat: { color: { mode: 'thresholds' }, first: 'text' },
  table: { color: { mode: 'thresholds' }, first: 'text' },
  gauge: { color: { mode: 'thresholds' }, first: 'blue' },
  bargauge: { color: { mode: 'thresholds' }, first: 'blue' },
  barchart: { color: { mode: 'fixed', fixedColor: 'blue' }, first: 'text' },
  timeseries: { color: { mode: 'palette-classic' }, first: 'text' },
};

// The heads of columns that are labels.
local titles = {
  about: 'About',
  account: 'Account',
  action: 'Playbook',
  alertname: 'Alert',
  budget: 'Budget',
  environment: 'Environment',
  feature: 'Feature',
  guardrail: 'Guardrail',
  period: 'Period',
  provider: 'Provider',
  receiver: 'Receiver',
  region: 'Region',
  service: 'Service',
  severity: 'Severity',
  source: 'Source',
  team: 'Team',
  tenant_id: 'Tenant',
  user_id: 'User',
};

local panel(type, title, description, targets, unit, width, height) = {
  type: type,
  title: title,
  // Written over several lines, one paragraph.
  description: std.stripChars(std.strReplace(description, '\n', ' '), ' '),
  datasource: source,
  targets: std.mapWithIndex(function(i, target) target { refId: letters[i] }, targets),
  fieldConfig: {
    defaults: { unit: unit, color: looks[type].color, thresholds: { mode: 'absolute', steps: [{ color: looks[type].first, value: null }] } },
    overrides: [],
  },
  gridPos: { w: width, h: height },
};

// Where a link leads: a dashboard by its uid, with the same source and time, and with variables set.
local address(uid, variables='') =
  '/d/%s?${datasource:queryparam}%s&${__url_time_range}' % [uid, variables];

local steps(pairs) = [{ color: 'green', value: null }] + [{ color: pair[1], value: pair[0] } for pair in pairs];

local latest = { calcs: ['lastNotNull'], fields: '', values: false };

// Panels side by side, on the next line where they no longer fit. `y` is where the row begins.
local place(panels, y) =
  local step(state, p) =
    local wraps = state.x + p.gridPos.w > columns;
    local x = if wraps then 0 else state.x;
    local top = if wraps then state.bottom else state.y;
    {
      x: x + p.gridPos.w,
      y: top,
      bottom: std.max(state.bottom, top + p.gridPos.h),
      panels: state.panels + [p { gridPos+: { x: x, y: top } }],
    };
  std.foldl(step, panels, { x: 0, y: y, bottom: y, panels: [] });

local stack(rows) =
  local step(state, row) =
    local title = {
      type: 'row',
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y: state.y, w: columns, h: titleHeight },
    };
    local placed = place(row.panels, state.y + titleHeight);
    { y: placed.bottom, panels: state.panels + [title] + placed.panels };
  std.foldl(step, rows, { y: 0, panels: [] }).panels;

{
  // --- queries -------------------------------------------------------------------------------------------------------------------

  // The present figure, for numbers and bars.
  now(expr, legend=''):: { datasource: source, expr: expr, legendFormat: legend, instant: true, range: false },
  // The present figures with their labels as columns.
  rows(expr):: self.now(expr) { format: 'table' },
  // The figures over the time that the dashboard shows.
  // Points lie a minute apart or more: `$__rate_interval` is four of them at least, so that rates of targets that are scraped each minute
  // have samples, whatever scrape interval the data source names.
  over(expr, legend):: { datasource: source, expr: expr, legendFormat: legend, instant: false, range: true, interval: '1m' },

  // --- panels: title, a sentence, queries, unit, and the size in columns and lines ------------------------------------------------

  number(title, description, target, unit, width=4, height=4)::
    panel('stat', title, description, [target], unit, width, height) {
      options: { colorMode: 'value', graphMode: 'none', justifyMode: 'auto', orientation: 'auto', reduceOptions: latest, textMode: 'auto' },
    },

  gauge(title, description, target, unit, width=4, height=4)::
    panel('gauge', title, description, [target], unit, width, height) {
      options: { orientation: 'auto', reduceOptions: latest, showThresholdLabels: false, showThresholdMarkers: true },
    },

  // One number for each series.
  numbers(title, description, targets, unit, width=8, height=4)::
    panel('stat', title, description, targets, unit, width, height) {
      options: { colorMode: 'value', graphMode: 'none', justifyMode: 'auto', orientation: 'auto', reduceOptions: latest, textMode: 'value_and_name' },
    },

  // Text that stands in a label: which version, which mode.
  names(title, description, target, width=8, height=4)::
    panel('stat', title, description, [target], 'none', width, height) {
      options: { colorMode: 'value', graphMode: 'none', justifyMode: 'auto', orientation: 'auto', reduceOptions: latest, textMode: 'name' },
    },

  bars(title, description, target, unit, width=8, height=9)::
    panel('bargauge', title, description, [target], unit, width, height) {
      options: { displayMode: 'basic', orientation: 'horizontal', reduceOptions: latest, showUnfilled: true, valueMode: 'color' },
    } + { fieldConfig+: { defaults+: { min: 0 } } },

  lines(title, description, targets, unit, width=12, height=9)::
    panel('timeseries', title, description, targets, unit, width, height) {
      options: {
        legend: { calcs: ['lastNotNull'], displayMode: 'table', placement: 'bottom', showLegend: true },
        tooltip: { mode: 'multi', sort: 'desc' },
      },
    } + { fieldConfig+: { defaults+: { custom: { fillOpacity: 10, lineWidth: 1, showPoints: 'never', spanNulls: false } } } },

  // One bar a value of the column `x`, which is text.
  columns(title, description, target, unit, x, width=12, height=9)::
    panel('barchart', title, description, [target], unit, width, height) {
      options: {
        xField: x,
        orientation: 'auto',
        stacking: 'none',
        showValue: 'auto',
        legend: { calcs: [], displayMode: 'list', placement: 'bottom', showLegend: false },
        tooltip: { mode: 'single', sort: 'none' },
      },
      transformations: [
        { id: 'organize', options: { excludeByName: { Time: true } } },
        { id: 'sortBy', options: { sort: [{ field: x }] } },
      ],
    },

  // `names` are the queries' columns in their order; `labels` the columns from labels, in theirs. Costwardens with ledgers of their own
  // have a `job` each: it keeps their lines apart, and is not shown.
  grid(title, description, targets, unit, labels, names, width=24, height=9)::
    local field(i) = if std.length(names) == 1 then 'Value' else 'Value #' + letters[i];
    local figures = std.mapWithIndex(function(i, name) { field: field(i), name: name }, names);
    local fields = labels + [figure.field for figure in figures];
    panel('table', title, description, targets, unit, width, height) {
      options: { showHeader: true, sortBy: [{ displayName: names[0], desc: true }] },
      transformations: [
        { id: 'merge', options: {} },
        {
          id: 'organize',
          options: {
            excludeByName: { Time: true, job: true },
            indexByName: { [fields[i]]: i for i in std.range(0, std.length(fields) - 1) },
            renameByName: { [figure.field]: figure.name for figure in figures } + { [label]: titles[label] for label in labels },
          },
        },
      ],
    },

  // --- refinements of a panel -----------------------------------------------------------------------------------------------------

  // Colours from the values on: `[0.8, 'orange']`; below them it is green.
  steps(pairs):: { fieldConfig+: { defaults+: { thresholds+: { steps: steps(pairs) } } } },
  stepsOf(name, pairs):: self.other(name, { thresholds: { mode: 'absolute', steps: steps(pairs) } }),
  budgetSteps:: self.steps([[0.8, 'orange'], [1, 'red']]),
  // The more the better, and CloudCostUnattributed fires below 0.8 as shipped. The first step, which begins nowhere, is red here.
  ownedSteps:: { fieldConfig+: { defaults+: { thresholds+: { steps: [
    { color: 'red', value: null },
    { color: 'orange', value: 0.5 },
    { color: 'green', value: 0.8 },
  ] } } } },
  whole:: { fieldConfig+: { defaults+: { decimals: 0 } } },
  min(value):: { fieldConfig+: { defaults+: { min: value } } },
  max(value):: { fieldConfig+: { defaults+: { max: value } } },
  // One column or series, by its name, otherwise than the rest.
  other(name, properties):: {
    fieldConfig+: {
      overrides+: [{ matcher: { id: 'byName', options: name }, properties: [{ id: id, value: properties[id] } for id in std.objectFields(properties)] }],
    },
  },
  // Another unit for one column or series.
  unitOf(name, unit):: self.other(name, { unit: unit }),
  // A column coloured by the steps of the panel, or by its own.
  coloured(name, pairs=null):: self.other(
    name,
    { 'custom.cellOptions': { type: 'color-background' } }
    + if pairs == null then {} else { thresholds: { mode: 'absolute', steps: steps(pairs) } },
  ),
  // 0 and 1 as words: `['down', 'red'], ['up', 'green']`.
  words(zero, one):: {
    fieldConfig+: {
      defaults+: {
        mappings: [{ type: 'value', options: { '0': { index: 0, text: zero[0], color: zero[1] }, '1': { index: 1, text: one[0], color: one[1] } } }],
      },
    },
  },
  wordsOf(name, zero, one):: self.other(name, {
    unit: 'none',
    'custom.cellOptions': { type: 'color-background' },
    mappings: [{ type: 'value', options: { '0': { index: 0, text: zero[0], color: zero[1] }, '1': { index: 1, text: one[0], color: one[1] } } }],
  }),
  // Where the panel leads.
  leads(title, uid):: { fieldConfig+: { defaults+: { links: [{ title: title, url: address(uid), targetBlank: false }] } } },
  // Where a cell of a table leads: `column` is the label that the variable of the same name is set to.
  leadsBy(column, title, uid):: self.other(
    titles[column],
    { links: [{ title: title, url: address(uid, '&var-%s=${__data.fields.%s:percentencode}' % [column, column]), targetBlank: false }] },
  ),
  // Where a series leads: as `leadsBy`, by a label of the series.
  seriesLeadsBy(label, title, uid):: {
    fieldConfig+: {
      defaults+: {
        links: [{ title: title, url: address(uid, '&var-%s=${__field.labels.%s:percentencode}' % [label, label]), targetBlank: false }],
      },
    },
  },
  // The lines of a table by another column than its first figure, the largest first unless `desc` is false.
  sorted(name, desc=true):: { options+: { sortBy: [{ displayName: name, desc: desc }] } },
  // Of many lines, whose areas would hide each other.
  bare:: { fieldConfig+: { defaults+: { custom+: { fillOpacity: 0 } } } },
  // What lies between two series, filled.
  band(lower, upper):: self.other(lower, { 'custom.lineWidth': 0, 'custom.fillOpacity': 0 })
                       + self.other(upper, { 'custom.lineWidth': 0, 'custom.fillOpacity': 20, 'custom.fillBelowTo': lower }),
  // A limit that a line is held against.
  limit(name):: self.other(
    name,
    { 'custom.lineStyle': { fill: 'dash', dash: [10, 10] }, 'custom.fillOpacity': 0, color: { mode: 'fixed', fixedColor: 'red' } },
  ),
  // The same of series whose names a pattern finds, each in its own colour.
  limits(pattern):: {
    fieldConfig+: {
      overrides+: [{
        matcher: { id: 'byRegexp', options: pattern },
        properties: [{ id: 'custom.lineStyle', value: { fill: 'dash', dash: [10, 10] } }],
      }],
    },
  },
  // What stands beside `No data`, which may mean that something is broken: what it takes for there to be any. Not where costwarden says 0.
  needs(text):: { fieldConfig+: { defaults+: { noValue: 'No data: needs ' + text } } },
  stacked:: { fieldConfig+: { defaults+: { custom+: { stacking: { mode: 'normal', group: 'A' }, fillOpacity: 60 } } } },

  // What fires, for every dashboard: the critical first. There may be an alert for each tenant.
  firing(pattern, chosen=null)::
    local labels = ['alertname', 'about', 'budget', 'tenant_id', 'provider', 'source', 'team'];
    local by = std.join(', ', labels);
    local matchers = 'category="finops", alertname=~"%s"%s' % [pattern, if chosen == null then '' else ', ' + q.chosenOrNone(chosen)];
    // What else an alert is about, in one column: most alerts have none or one of these, and a page shows spaces between them as one.
    local about(alerts) =
      local others = ['guardrail', 'playbook', 'receiver', 'service', 'instance', 'period', 'threshold'];
      'label_join(%s, "about", " ", %s)' % [alerts, std.join(', ', ['"%s"' % label for label in others])];
    local firing(severity) = about('ALERTS{alertstate="firing", severity%s, %s}' % [severity, matchers]);
    local worst = 'topk(100, max by (%s) (3 * %s or 2 * %s or %s))'
                  % [by, firing('="critical"'), firing('="warning"'), firing('!~"critical|warning"')];
    self.grid(
      'Firing',
      |||
        Alerts of costwarden that fire now, and since when their cause is there: the first 100, the critical ones before the warnings. The runbook
        is alerts/README.md.
      ||| + if chosen == null then '' else 'Of what is chosen above, and what is nobody\'s in particular.',
      [
        self.rows(worst),
        self.rows(q.among(worst, '1000 * min by (%s) (%s)' % [by, about('ALERTS_FOR_STATE{%s}' % matchers)])),
      ],
      'none',
      labels,
      ['Severity', 'Since'],
      height=7,
    )
    + self.other('Severity', {
      'custom.cellOptions': { type: 'color-background' },
      mappings: [{
        type: 'value',
        options: {
          '1': { index: 2, text: 'info', color: 'blue' },
          '2': { index: 1, text: 'warning', color: 'orange' },
          '3': { index: 0, text: 'critical', color: 'red' },
        },
      }],
    })
    + self.unitOf('Since', 'dateTimeFromNow')
    + { fieldConfig+: { defaults+: { noValue: 'Nothing fires, or the rules are not loaded' } } }
    + self.leadsBy('tenant_id', 'AI budgets of ${__value.text}', 'finops-ai-budget')
    + self.leadsBy('provider', 'Cost of ${__value.text}', 'finops-cloud-cost'),

  // --- the whole ------------------------------------------------------------------------------------------------------------------

  // Everything with `label` where nothing is chosen, also what has no such label.
  variable(name, title, metric):: {
    name: name,
    label: title,
    type: 'query',
    datasource: source,
    query: { query: 'label_values(%s, %s)' % [metric, name], refId: name },
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { selected: true, text: ['All'], value: ['$__all'] },
    // When the dashboard is opened: at each turn of its own refresh it would be all tenants again.
    refresh: 1,
    sort: 1,
    hide: 0,
  },

  // When something happened, over every panel: the labels of the result tell what.
  annotation(name, expr, title, colour):: {
    name: name,
    datasource: source,
    enable: true,
    hide: false,
    iconColor: colour,
    expr: expr,
    titleFormat: title,
  },

  row(title, panels):: { title: title, panels: panels },

  // `since` is where the time range begins; `about` the variable whose choice the annotations heed.
  dashboard(uid, title, description, variables, rows, since='now-30d', about=null):: {
    uid: uid,
    title: title,
    description: description,
    tags: ['costwarden', 'finops'],
    editable: true,
    graphTooltip: 1,
    refresh: '1m',
    schemaVersion: 39,
    time: { from: since, to: 'now' },
    timezone: 'utc',
    templating: {
      // A variable, so that the dashboard works as it is wherever it is imported.
      list: [{ name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1, hide: 0 }] + variables + [{
        name: 'costwarden_version',
        label: 'Version of the dashboards',
        type: 'constant',
        query: version,
        current: { text: version, value: version },
        hide: 2,
        skipUrlSync: true,
      }],
    },
    annotations: {
      list: [
        // One for all that fire by the same name, without the information: a thousand tenants may be over budget at once, and `Firing` names them.
        $.annotation(
          'Alerts',
          'count by (alertname, severity) (ALERTS{category="finops", alertstate="firing", severity=~"critical|warning"%s})'
          % if about == null then '' else ', ' + q.chosenOrNone(about),
          '{{alertname}} ({{severity}})',
          'red',
        ),
        // A counter is born with its first run already in it, and `increase` does not see a birth: the first part does.
        $.annotation(
          'Remediation runs',
          |||
            sum by (playbook, outcome) (costwarden_remediation_runs_total)
            unless sum by (playbook, outcome) (costwarden_remediation_runs_total offset 2m)
            or sum by (playbook, outcome) (increase(costwarden_remediation_runs_total[2m])) > 0
          |||,
          '{{playbook}}: {{outcome}}',
          'purple',
        ),
      ],
    },
    links: [{
      title: 'costwarden',
      type: 'dashboards',
      tags: ['costwarden'],
      asDropdown: true,
      includeVars: false,
      keepTime: true,
      targetBlank: false,
      icon: 'external link',
      tooltip: 'Other dashboards of costwarden',
      url: '',
    }],
    panels: std.mapWithIndex(function(i, p) p { id: i + 1 }, stack(rows)),
  },
}
