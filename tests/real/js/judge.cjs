// Answers requests, one JSON object per line, with sigstore-js' libraries: verify, sign, attest.
// Modules are found through NODE_PATH.
'use strict';

const readline = require('node:readline');
const { bundleFromJSON, bundleToJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const {
  DSSEBundleBuilder,
  FulcioSigner,
  MessageSignatureBundleBuilder,
  RekorWitness,
  TSAWitness,
} = require('@sigstore/sign');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');

// The policy is an expression that matches anywhere; whole names are wanted.
const exactly = (text) => `^${text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}$`;

function verify(ask) {
  const material = toTrustMaterial(TrustedRoot.fromJSON(ask.root));
  const data = ask.artifact === null ? undefined : Buffer.from(ask.artifact, 'base64');
  const entity = toSignedEntity(bundleFromJSON(ask.bundle), data);
  new Verifier(material).verify(entity, {
    subjectAlternativeName: exactly(ask.identity),
    extensions: { issuer: ask.issuer },
  });
  return null;
}

async function sign(ask) {
  const signer = new FulcioSigner({
    fulcioBaseURL: ask.fulcio,
    identityProvider: { getToken: async () => ask.token },
  });
  const witnesses = [
    new RekorWitness({
      rekorBaseURL: ask.rekor,
      majorApiVersion: ask.version,
      entryType: ask.type && ask.version === 1 ? 'dsse' : undefined,
      timeout: 20000,
    }),
  ];
  if (ask.tsa) witnesses.push(new TSAWitness({ tsaBaseURL: ask.tsa }));
  const Builder = ask.type ? DSSEBundleBuilder : MessageSignatureBundleBuilder;
  const builder = new Builder({ signer, witnesses });
  const artifact = { data: Buffer.from(ask.payload, 'base64'), type: ask.type || undefined };
  return bundleToJSON(await builder.create(artifact));
}

const OPERATIONS = { verify, sign };

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const ask = JSON.parse(line);
    let answer;
    try {
      answer = { value: await OPERATIONS[ask.op](ask) };
    } catch (error) {
      const cause = error.cause ? `: ${error.cause.message}` : '';
      answer = { error: `${error.code || error.name}: ${error.message}${cause}` };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
})();
