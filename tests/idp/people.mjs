// People at the provider, and the page on which they say who they are. Nobody is asked for a password: whoever comes
// from this machine may be anyone.
export const PEOPLE = {
  ann: ['admins', 'dba'],
  ben: ['approvers'],
  cyd: ['auditors'],
  dee: ['agents'],
}

// Those of whom nothing is known are in no group.
export const groups = (name) => PEOPLE[name] ?? []

export const settings = {
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  claims: { openid: ['sub'], groups: ['groups'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['only a test'] },
  findAccount: (_, name) => ({
    accountId: name,
    claims: () => ({ sub: name, groups: groups(name) }),
  }),
  // Nobody is asked for their consent, either.
  async loadExistingGrant(context) {
    const { provider, client, session } = context.oidc
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope('openid groups')
    await grant.save()
    return grant
  },
}

// The client that a gateway's pages are.
export const pages = (redirect_uris) => ({
  client_id: 'rowgate-pages',
  client_secret: 'a secret of the pages: 100%',
  redirect_uris,
  grant_types: ['authorization_code'],
  response_types: ['code'],
  id_token_signed_response_alg: 'ES256',
})

const PAGE = `<!doctype html><html lang="en"><title>Provider</title><main><h1>Who are you?</h1>
<form method="post"><label>Name <input name="name" autofocus></label> <button>Sign in</button>
<button name="refuse" value="yes">Refuse</button></form></main></html>`

export async function interact(provider, request, response) {
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html; charset=utf-8')
    return response.end(PAGE)
  }
  let text = ''
  for await (const chunk of request) text += chunk
  const form = new URLSearchParams(text)
  const result = form.get('refuse')
    ? { error: 'access_denied', error_description: '<script>alert(1)</script>' }
    : { login: { accountId: form.get('name') } }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
}
