// The pages in the order of the navigation: page, what it is called, and the beginning of the pages that belong to it.
import { m } from './messages'
import type { Page } from './url'

export const navigation: [Page, string, string][] = [
  ['overview', m.nav.overview, 'overview'], ['tenants/pairs', m.nav.tenants, 'tenants'], ['topology', m.nav.topology, 'topology'], ['map', m.nav.map, 'map'], ['explore', m.nav.explore, 'explore'], ['vms', m.nav.vms, 'vm'],
  ['inventory', m.nav.inventory, 'inventory'], ['flows', m.nav.flows, 'flows'], ['coverage', m.nav.coverage, 'coverage'], ['irregular', m.nav.irregular, 'irregular'], ['taps', m.nav.taps, 'taps'], ['filters', m.nav.filters, 'filters'], ['exporters', m.nav.exporters, 'exporters'], ['sql', m.nav.sql, 'sql'],
]
