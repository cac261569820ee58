// What the dashboards are made of: queries, panels with a unit and a sentence, rows that lay themselves out, the dashboard around them.
local source = { type: 'prometheus', uid: '${datasource}' };

// Grafana's grid is 24 columns wide.
local columns = 24;
local titleHeight = 1;

local letters = 'ABCDEFGHIJ';

local panel(type, title, description, targets, unit, width, height) = {
  type: type,
  title: title,
  description: description,
  datasource: source,
  targets: std.mapWithIndex(function(i, target) target { refId: letters[i] }, targets),
  fieldConfig: { defaults: { unit: unit, thresholds: { mode: 'absolute', steps: [{ color: 'green', value: null }] } }, overrides: [] },
  gridPos: { w: width, h: height },
};

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
  over(expr, legend):: { datasource: source, expr: expr, legendFormat: legend, instant: false, range: true },

  // --- panels: title, a sentence, queries, unit, and the size in columns and lines ------------------------------------------------

  number(title, description, target, unit, width=4, height=4)::
    panel('stat', title, description, [target], unit, width, height) {
      options: { colorMode: 'value', graphMode: 'none', justifyMode: 'auto', orientation: 'auto', reduceOptions: latest, textMode: 'auto' },
    },

  gauge(title, description, target, unit, width=4, height=4)::
    panel('gauge', title, description, [target], unit, width, height) {
      options: { orientation: 'auto', reduceOptions: latest, showThresholdLabels: false, showThresholdMarkers: true },
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

  // `names` are the queries' columns in their order; `labels` the columns from labels, in theirs.
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
            excludeByName: { Time: true },
            indexByName: { [fields[i]]: i for i in std.range(0, std.length(fields) - 1) },
            renameByName: { [figure.field]: figure.name for figure in figures },
          },
        },
      ],
    },

  // --- refinements of a panel -----------------------------------------------------------------------------------------------------

  // Colours from the values on: `[0.8, 'orange']`.
  steps(pairs):: { fieldConfig+: { defaults+: { thresholds+: { steps+: [{ color: pair[1], value: pair[0] } for pair in pairs] } } } },
  budgetSteps:: self.steps([[0.8, 'orange'], [1, 'red']]),
  max(value):: { fieldConfig+: { defaults+: { max: value } } },
  // Another unit for one column or series.
  unitOf(name, unit):: {
    fieldConfig+: { overrides+: [{ matcher: { id: 'byName', options: name }, properties: [{ id: 'unit', value: unit }] }] },
  },
  // A column coloured by the steps of the panel.
  coloured(name):: {
    fieldConfig+: {
      overrides+: [
        { matcher: { id: 'byName', options: name }, properties: [{ id: 'custom.cellOptions', value: { type: 'color-background' } }] },
      ],
    },
  },

  // What fires, for every dashboard.
  firing(pattern)::
    local labels = ['alertname', 'severity', 'team', 'budget', 'tenant_id', 'provider', 'source'];
    local alerts = 'ALERTS{category="finops", alertstate="firing", alertname=~"%s"}' % pattern;
    self.grid(
      'Firing',
      'Alerts of costwarden that fire now. The runbook is alerts/README.md.',
      [self.rows('max by (%s) (%s)' % [std.join(', ', labels), alerts])],
      'none',
      labels,
      ['firing'],
      height=7,
    ),

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
    refresh: 2,
    sort: 1,
    hide: 0,
  },

  row(title, panels):: { title: title, panels: panels },

  dashboard(uid, title, description, variables, rows):: {
    uid: uid,
    title: title,
    description: description,
    tags: ['costwarden', 'finops'],
    editable: true,
    graphTooltip: 1,
    refresh: '1m',
    schemaVersion: 39,
    time: { from: 'now-30d', to: 'now' },
    timezone: 'utc',
    templating: {
      // A variable, so that the dashboard works as it is wherever it is imported.
      list: [{ name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1, hide: 0 }] + variables,
    },
    annotations: { list: [] },
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
