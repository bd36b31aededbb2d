// What script adds to the pages; without it they work as well: buttons that copy, times that go on, lists that stay new.
'use strict'

function ago(at, now) {
  const seconds = Math.round(now - at)
  const away = Math.abs(seconds)
  if (away < 10) return 'just now'
  const [count, unit] =
    away < 60 ? [away, 'second']
    : away < 3600 ? [Math.floor(away / 60), 'minute']
    : away < 86400 ? [Math.floor(away / 3600), 'hour']
    : [Math.floor(away / 86400), 'day']
  const words = `${count} ${unit}${count === 1 ? '' : 's'}`
  return seconds < 0 ? `in ${words}` : `${words} ago`
}

function times() {
  for (const span of document.querySelectorAll('.ago')) {
    span.textContent = ago(Number(span.dataset.at), Date.now() / 1000)
  }
}

async function copy(button) {
  const code = button.parentElement.querySelector('code')
  try {
    await navigator.clipboard.writeText(code.textContent)
    button.textContent = 'Copied'
  } catch {
    // Not allowed here: selected, it is one key away.
    getSelection().selectAllChildren(code)
    button.textContent = 'Selected'
  }
  setTimeout(() => { button.textContent = 'Copy' }, 2000)
}

function ready(root) {
  for (const button of root.querySelectorAll('[data-copy]')) {
    button.hidden = false
    button.addEventListener('click', () => copy(button))
  }
}

// A list is left alone while someone is about to do something in it, or looks elsewhere.
function isBusy(live) {
  return document.hidden || live.contains(document.activeElement)
    || live.querySelector('details[open]') !== null || !getSelection().isCollapsed
}

async function refresh(live) {
  if (isBusy(live)) return
  const answer = await fetch(location.href, { headers: { accept: 'text/html' }, redirect: 'error' })
  if (!answer.ok) return
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
  const fresh = page.getElementById(live.id)
  if (fresh === null || isBusy(live)) return
  live.replaceChildren(...document.importNode(fresh, true).childNodes)
  ready(live)
  times()
}

ready(document)
times()
setInterval(times, 10_000)
for (const live of document.querySelectorAll('[data-live]')) {
  setInterval(() => refresh(live).catch(() => {}), Number(live.dataset.live) * 1000)
}
document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
