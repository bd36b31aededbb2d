// A real OpenID provider (oidc-provider, which is certified) on a port of loopback, for the tests.
//
// Beside the provider's own endpoints it has, under /test:
//   POST /test/rotate   new keys; tokens that were signed with the old ones stop being good
//   POST /test/sign     {header, claims}: a token with these, signed with the provider's own EC key
//   GET  /test/fetches  how often the keys were asked for
//   POST /test/pages    {redirect_uris}: where the pages of a gateway are come back to
//   POST /test/answer   {id_token}: what the next code is answered with, in place of what it should be
import { createServer } from 'node:http'
import { once } from 'node:events'
import * as jose from 'jose'
import { Provider } from 'oidc-provider'
import { interact, pages, settings } from './people.mjs'

// Whoever started it hears its URL, and then no more.
console.info = console.error

const AGENTS = {
  'etl-bot': { secret: 'a secret of the agent', groups: ['agents'] },
  'stranger': { secret: 'another secret', groups: ['nobody'] },
}

let keys, provider, handler
let fetches = 0
// More arguments: where the pages of a gateway are come back to, if that is known already.
let redirectUris = process.argv.slice(4)
let nextAnswer

async function rotate(issuer) {
  const made = {}
  for (const algorithm of ['ES256', 'RS256', 'EdDSA']) {
    const { privateKey } = await jose.generateKeyPair(algorithm, { extractable: true })
    const jwk = await jose.exportJWK(privateKey)
    made[algorithm] = { ...jwk, alg: algorithm, use: 'sig', kid: `${algorithm}-${Date.now()}` }
  }
  keys = made
  configure(issuer)
}

function configure(issuer) {
  const agents = Object.entries(AGENTS).map(([id, agent]) => ({
    client_id: id,
    client_secret: agent.secret,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  }))
  provider = new Provider(issuer, {
    ...settings,
    clients: redirectUris.length ? [...agents, pages(redirectUris)] : agents,
    jwks: { keys: Object.values(keys) },
    extraTokenClaims: (_, token) => ({ groups: AGENTS[token.clientId]?.groups ?? [] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: 'sql',
          audience: new URL(resource).pathname.slice(1),
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  handler = provider.callback()
}

async function body(request) {
  let text = ''
  for await (const chunk of request) text += chunk
  return JSON.parse(text || '{}')
}

async function test(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost')
  if (pathname === '/test/rotate') {
    await rotate(issuer)
    return response.end('rotated')
  }
  if (pathname === '/test/fetches') return response.end(String(fetches))
  if (pathname === '/test/pages') {
    redirectUris = (await body(request)).redirect_uris
    configure(issuer)
    return response.end('configured')
  }
  if (pathname === '/test/answer') {
    nextAnswer = (await body(request)).id_token
    return response.end('kept')
  }
  const { header, claims } = await body(request)
  // (Without its own name for it: an RSA key can sign in other ways, too.)
  const { alg, ...jwk } = keys[header.alg] ?? (/^[PR]S/.test(header.alg) ? keys.RS256 : keys.ES256)
  const key = await jose.importJWK(jwk, header.alg)
  const signer = new jose.SignJWT(claims).setProtectedHeader({ kid: jwk.kid, ...header })
  response.end(await signer.sign(key))
}

const server = createServer((request, response) => {
  if (request.url.startsWith('/jwks')) fetches += 1
  if (nextAnswer && request.url.startsWith('/token')) {
    const answer = { access_token: 'x', token_type: 'Bearer', id_token: nextAnswer }
    nextAnswer = undefined
    response.setHeader('content-type', 'application/json')
    return response.end(JSON.stringify(answer))
  }
  const own = request.url.startsWith('/test/') ? test(request, response)
    : request.url.startsWith('/interaction/') ? interact(provider, request, response)
    : undefined
  if (!own) return handler(request, response)
  own.catch((error) => {
    response.statusCode = 500
    response.end(String(error))
  })
})
server.listen(Number(process.argv[2] ?? 0), process.argv[3] ?? '127.0.0.1')
await once(server, 'listening')
const issuer = `http://127.0.0.1:${server.address().port}`
await rotate(issuer)
console.log(issuer)
// Ends with whoever started it.
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
