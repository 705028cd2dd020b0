// An issuer to log in at, on loopback: the certified provider `oidc-provider` with all that a command
// line client can ask of it. `node issuer.mjs NODE_MODULES PORT`. Every login name is let in with any
// password; an address of the domain `unverified.test` is one that the issuer has not verified.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, port] = process.argv.slice(2);
const entry = path.join(modules, 'oidc-provider', 'lib', 'index.js');
const { Provider, errors } = await import(pathToFileURL(entry).href);

const issuer = `http://127.0.0.1:${port}`;
const CODE = 'authorization_code';
const REFRESH = 'refresh_token';
const MACHINE = 'client_credentials';
// What a token is asked to be for (RFC 8707): signing, by a JWT that says so, or by one that is opaque.
const RESOURCES = { 'urn:keyless:signing': 'jwt', 'urn:keyless:opaque': 'opaque' };
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
// A native client's loopback redirects may have any port (RFC 8252, 7.3).
const REDIRECTS = ['http://127.0.0.1/auth/callback', 'http://localhost/auth/callback'];

function client(id, grants) {
  return {
    client_id: id,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    redirect_uris: REDIRECTS,
    grant_types: grants,
    response_types: ['code'],
  };
}

// A client that nobody logs in at. Its id is its identity, so it is a URI below the issuer's.
const robot = {
  client_id: `${issuer}/robot`,
  client_secret: 'secret-of-the-robot',
  token_endpoint_auth_method: 'client_secret_post',
  redirect_uris: [],
  grant_types: [MACHINE],
  response_types: [],
};

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
  clients: [
    client('sigstore', [CODE, REFRESH, DEVICE]),
    client('no-refresh', [CODE, DEVICE]),
    robot,
  ],
  cookies: { keys: [randomBytes(32).toString('hex')] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  // Into the ID token with them: the certificate authority asks no other endpoint.
  conformIdTokenClaims: false,
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => {
        const accessTokenFormat = RESOURCES[resource];
        if (accessTokenFormat === undefined) throw new errors.InvalidTarget();
        return { scope: 'sign', audience: 'sigstore', accessTokenFormat, accessTokenTTL: 300 };
      },
    },
    revocation: { enabled: true },
  },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: 300,
    AuthorizationCode: 60,
    ClientCredentials: 300,
    DeviceCode: 300,
    Grant: 3600,
    IdToken: 300,
    Interaction: 300,
    RefreshToken: 3600,
    Session: 3600,
  },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      email: id,
      email_verified: !id.endsWith('@unverified.test'),
    }),
  }),
});

// What it refuses is what a test that fails wants to know.
for (const name of ['authorization.error', 'grant.error', 'server_error', 'revocation.error']) {
  provider.on(name, (_, error) => console.error(name, error.error, error.error_description ?? error));
}

provider.listen(Number(port), '127.0.0.1');
