# A Rack service that calls with Net::HTTP; knows nothing of tracing. With FAN_OUT=1, calls that are
# to be made at once are: on threads of their own. The plan in a request's query is explained in
# plan.py.

require 'net/http'

LEAF = URI(ENV.fetch('LEAF'))

def connect
  Net::HTTP.start(LEAF.host, LEAF.port)
end

def call(connection, path)
  answer = connection.get(path)
  raise "#{path} answered #{answer.code}" unless answer.code == '200'
end

def work(tag, plan)
  made = -1
  next_path = -> { "/leaf/#{tag}/#{made += 1}" }
  # A connection of each thread's own, kept from request to request.
  mine = (Thread.current[:connection] ||= connect)
  plan.split('.').reject(&:empty?).each do |word|
    count = word[1..].to_i
    if word[0] == 's'
      sleep(count / 1000.0)
    elsif word[0] == 'p' && ENV['FAN_OUT']
      paths = Array.new(count) { next_path.call }
      paths.map { |path| Thread.new { connect.tap { |it| call(it, path) }.finish } }.each(&:join)
    else
      count.times { call(mine, next_path.call) }
    end
  end
end

run(lambda do |env|
  work(env['PATH_INFO'].split('/')[2], env['QUERY_STRING'].delete_prefix('plan='))
  [200, { 'Content-Type' => 'text/plain', 'Content-Length' => '5' }, ["done\n"]]
end)
