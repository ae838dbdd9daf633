import { svelte } from '@sveltejs/vite-plugin-svelte'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

// The mock server (npm run mock) or a real one (CROSSTAP=http://127.0.0.1:8474) answers /api while developing.
const server = process.env.CROSSTAP ?? 'http://127.0.0.1:8475'

// While developing, the document finds its root as the server's Page does it.
const base: Plugin = {
  name: 'base-element',
  apply: 'serve',
  transformIndexHtml: (html, { originalUrl = '/' }) => html.replace('<base href="./" />', `<base href="${'../'.repeat(originalUrl.split('?')[0]!.split('/').length - 2) || './'}" />`),
}

export default defineConfig({
  base: './',
  plugins: [svelte(), base],
  build: {
    target: 'es2023',
    assetsInlineLimit: 0, // data: URLs would need a weaker Content-Security-Policy
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: false,
  },
  server: { proxy: { '/api': server, '/openapi.json': server } },
  test: { include: ['src/**/*.test.ts'], testTimeout: 60_000 }, // a busy machine is slow, and not wrong
})
