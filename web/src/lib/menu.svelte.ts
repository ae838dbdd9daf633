// The menu of a clicked value: one for the whole page, opened next to whatever was clicked.

export interface Target { anchor: HTMLElement | SVGElement; field: string; value: string | number }

class Menu {
  target = $state.raw<Target | null>(null)
}

export const menu = new Menu()

export function openMenu(anchor: HTMLElement | SVGElement, field: string, value: string | number): void {
  menu.target = { anchor, field, value }
}
