// Runs jobs with @rudderstack/rudder-sdk-node: node rudder_node.mjs PACKAGE < jobs.json
// A job is {url, key, options, calls}; prints one {errors: […]} per job. The option "unhandled"
// leaves the SDK without an error handler, as its quick start does.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const loaded = createRequire(import.meta.url)(process.argv[2])
const RudderAnalytics = loaded.default ?? loaded
const jobs = JSON.parse(readFileSync(0), (_, value) => value?.$date ? new Date(value.$date) : value)

async function run({ url, key, options: { unhandled, ...options }, calls }) {
  const errors = []
  const analytics = new RudderAnalytics(key, {
    dataPlaneUrl: url,
    flushInterval: 200,
    logLevel: 'none',
    ...(unhandled ? {} : { errorHandler: (error) => errors.push(String(error)) }),
    ...options,
  })
  for (const { type, ...call } of calls) analytics[type](call)
  // The first event leaves alone, the rest behind it.
  await analytics.flush()
  return { errors }
}

const reports = await Promise.all(jobs.map(run))
console.log(JSON.stringify(reports))
