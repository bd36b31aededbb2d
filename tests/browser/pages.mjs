// A person at the pages, in a real browser: signs in by OIDC or SAML, looks at every page at a phone's and a desk's width, makes a
// token by keyboard alone, signs out. Each page is looked at by axe (WCAG 2.2 A and AA), and must say nothing to the
// console.
//
//   node pages.mjs SITE FOLDER < SCRIPT     SCRIPT: JSON, a list of {as, by, script, without}
//
// What it finds wrong goes to standard error, and makes it fail. Screenshots go to FOLDER.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const [site, folder] = process.argv.slice(2)
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const WIDTHS = [['390', { width: 390, height: 844 }], ['1280', { width: 1280, height: 800 }]]
// Longer than any page takes on a loaded machine.
const PATIENCE = 30_000
const wrong = []

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
})

async function look(page, name, expected = 200) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme })
    for (const [width, size] of WIDTHS) {
      await page.setViewportSize(size)
      await page.screenshot({ path: `${folder}/${name}-${width}-${scheme}.png`, fullPage: true })
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      if (over > 0) wrong.push(`${name} at ${width}: ${over} px wider than the window`)
    }
    // (From outside the page: its own policy lets no foreign script in, which is the point of it.)
    await page.evaluate(axe)
    const found = await page.evaluate(() => globalThis.axe.run({
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }))
    for (const { id, help, nodes } of found.violations) {
      wrong.push(`${name} (${scheme}): ${id}: ${help}: ${nodes.map((n) => n.html.slice(0, 160)).join(' | ')}`)
    }
  }
  await page.emulateMedia({ colorScheme: 'light' })
}

// What a step of the script does. (`look` needs script.)
const steps = {
  signIn,
  open: (page, path) => page.goto(site + path),
  look: (page, name) => look(page, name),
  picture: (page, name) => page.screenshot({ path: `${folder}/${name}.png`, fullPage: true }),
  click: (page, name) => page.getByText(name, { exact: true }).first().click(),
  review: (page) => page.getByRole('link', { name: /^Review/ }).first().click(),
  // Of the sessions of this identity in the record, the first in whose replay this is said.
  async replay(page, identity, text) {
    const links = await page.getByRole('link', { name: identity, exact: true }).evaluateAll((all) => all.map((a) => a.href))
    for (const link of links) {
      await page.goto(link)
      if (await page.getByText(text).count() > 0) return
    }
    throw new Error(`no session of ${identity} says ${text}`)
  },
  // Goes by Tab to what has this name, as people without a mouse do.
  async tab(page, name) {
    for (let at = 0; at < 80; at += 1) {
      await page.keyboard.press('Tab')
      const [text, ring] = await page.evaluate(() => {
        const { activeElement: at } = document
        const text = at.getAttribute('aria-label') ?? at.closest('label')?.firstChild.textContent ?? at.textContent
        return [text.trim(), getComputedStyle(at).outlineStyle]
      })
      if (ring === 'none') wrong.push(`no visible focus on ${text}`)
      if (text === name) return
    }
    throw new Error(`no way by keyboard to ${name}`)
  },
  press: (page, key) => page.keyboard.press(key),
  type: (page, text) => page.keyboard.type(text),
  async says(page, text) {
    await page.getByText(text).first().waitFor({ timeout: PATIENCE })
  },
  async width(page, width) {
    await page.setViewportSize(Object.fromEntries(WIDTHS)[width])
  },
  // Presses a button that copies, and prints what it copied.
  async copy(page, name) {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
    await page.getByRole('button', { name, exact: true }).click()
    console.log(await page.evaluate(() => navigator.clipboard.readText()))
  },
  async print(page, selector) {
    console.log(await page.locator(selector).first().textContent())
  },
}

// How people say who they are at the tests' two providers, by what the sign-in page calls them.
const providers = {
  async 'Example Corp'(page, name) {
    await page.getByLabel('Name').fill(name)
    await page.getByRole('button', { name: 'Sign in' }).click()
  },
  async 'The corporation'(page, name) {
    await page.locator('input[name=username]').fill(name)
    await page.locator('input[name=password]').fill(`${name}-s password`)
    await page.keyboard.press('Enter')
  },
}

async function signIn(page, name, by) {
  await page.goto(`${site}/sign-in`)
  await page.getByText(`Continue with ${by}`).click()
  await providers[by](page, name)
  await page.getByRole('heading', { name: 'My access' }).waitFor()
}

for (const { as, by = 'Example Corp', script: run, without } of JSON.parse(readFileSync(0, 'utf8'))) {
  const context = await browser.newContext({ javaScriptEnabled: !without })
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE)
  page.on('console', (message) => {
    // (A page's own status is what a step looks for, and the provider is not ours.)
    const { url } = message.location()
    if (/Failed to load resource/.test(message.text()) && (url === page.url() || !url.startsWith(site))) return
    if (['error', 'warning'].includes(message.type())) wrong.push(`console: ${message.text()} (${page.url()})`)
  })
  page.on('pageerror', (error) => wrong.push(`script: ${error} (${page.url()})`))
  const all = as ? [['signIn', as, by], ...run] : run
  for (const [step, ...rest] of all) {
    try {
      await steps[step](page, ...rest)
    } catch (error) {
      wrong.push(`${as}: ${step} ${rest.join(' ')}: ${error.message.split('\n')[0]} (${page.url()})`)
      break
    }
  }
  await context.close()
}
await browser.close()
for (const line of wrong) console.error(line)
process.exit(wrong.length ? 1 : 0)
