// Runs jobs with @segment/analytics-node: node segment_node.mjs PACKAGE < jobs.json
// A job is {url, key, options, calls}; prints one {errors: […]} per job.
import { readFileSync } from 'node:fs'

const { Analytics } = await import(process.argv[2])
const jobs = JSON.parse(readFileSync(0), (_, value) => value?.$date ? new Date(value.$date) : value)

async function run({ url, key, options, calls }) {
  const errors = []
  const analytics = new Analytics({ writeKey: key, host: url, ...options })
  analytics.on('error', ({ code, reason }) => errors.push(`${code}: ${reason}`))
  for (const { type, ...call } of calls) {
    try { analytics[type](call) } catch (error) { errors.push(`${type}: ${error.message}`) }
  }
  await analytics.closeAndFlush({ timeout: 30000 })
  return { errors }
}

console.log(JSON.stringify(await Promise.all(jobs.map(run))))
